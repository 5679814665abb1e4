import { usageError } from "../../cli.ts";
import { defineCommand } from "../../command.ts";
import { copyIn, copyOut, parseEndpoint } from "../../copy.ts";

const PATH = ["vm", "cp"];

export const command = defineCommand({
  args: {
    src: { type: "positional", required: true, description: "A file or tree; VM:PATH is in a VM; - is a tar stream." },
    dst: {
      type: "positional",
      required: true,
      description: "Where to; an existing directory gets it by its own name.",
    },
  },
  examples: [
    ["banger cp ./project box:/root/project", "a tree into box"],
    ["banger cp box:/var/log/dpkg.log .", "a file out of it"],
    ["tar -c . | banger cp - box:/root/here", "a tar stream, unpacked in there"],
  ],
  next: "banger exec NAME -- ls /root",
  run: async ({ args, client, interrupts }) => {
    const [source, target] = [parseEndpoint(args.src), parseEndpoint(args.dst)];
    if ((source.kind === "guest") === (target.kind === "guest"))
      throw usageError("one side is in a VM, written VM:PATH, and the other is not", PATH);
    const inside = source.kind === "guest" ? source : target;
    if (inside.kind !== "guest") throw usageError("one side is in a VM, written VM:PATH", PATH);
    const outside = source.kind === "guest" ? target : source;
    if (outside.kind === "guest") throw usageError("only one side is in a VM", PATH);
    const connection = await (await client()).call("vm.connect", { vm: inside.vm });
    if (source.kind === "guest") await copyOut(connection, inside.path, outside, interrupts);
    else await copyIn(connection, outside, inside.path, interrupts);
  },
});
