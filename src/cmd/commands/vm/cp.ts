import { stat } from "node:fs/promises";
import { usageError } from "../../line/usage.ts";
import { defineCommand } from "../../line/command.ts";
import { type CopyContext, copyIn, copyOut } from "../../guest/copy/copy.ts";
import { type Endpoint, parseEndpoint } from "../../guest/copy/endpoint.ts";
import { startInGuest } from "../../guest/copy/guest-program.ts";
import { reachGuest } from "../../guest/reach.ts";

const PATH = ["vm", "cp"];

export const command = defineCommand({
  args: {
    dst: {
      type: "positional",
      required: true,
      description: "Destination. If it is an existing directory, the copy goes inside it.",
    },
    recursive: {
      type: "boolean",
      alias: "r",
      description: "Has no effect: directories are always copied with their contents.",
    },
    archive: { type: "boolean", alias: "a", description: "Has no effect: modes, times and links are always kept." },
  },
  variadic: {
    name: "src",
    description: "A file or directory; VM:PATH is in a VM; DIR/. copies DIR's contents; - reads a tar stream.",
    least: 1,
    first: true,
  },
  examples: [
    ["banger cp ./project box:/root/project", "copies a directory into box"],
    ["banger cp box:/var/log/dpkg.log .", "copies a file out of box"],
    ["banger cp a.txt b.txt box:", "copies files into /root in box"],
    ["tar -c . | banger cp - box:/root/here", "unpacks a tar stream in box"],
  ],
  next: "banger exec NAME -- ls /root",
  run: async ({ args, many, client, out, interrupts }) => {
    const [sources, target] = [many.map(parseEndpoint), parseEndpoint(args.dst)];
    for (const source of sources)
      if ((source.kind === "guest") === (target.kind === "guest"))
        throw usageError("exactly one side must be in a VM, written VM:PATH", PATH);
    if (sources.length > 1) await checkSeveral(sources, target);
    const daemon = await client();
    const { signal } = interrupts;
    const contextOf = (vm: string): CopyContext => ({
      start: async (task) => await startInGuest(await reachGuest(daemon, vm, signal), task, signal),
      out,
      interrupts,
      isOneOfSeveral: many.length > 1,
    });
    for (const source of sources) {
      if (source.kind === "guest" && target.kind !== "guest") await copyOut(source.path, target, contextOf(source.vm));
      if (source.kind !== "guest" && target.kind === "guest") await copyIn(source, target.path, contextOf(target.vm));
    }
  },
});

/** @throws BangerError USAGE unless the target can hold several things */
async function checkSeveral(sources: readonly Endpoint[], target: Endpoint): Promise<void> {
  if (target.kind === "stream" || sources.some(({ kind }) => kind === "stream"))
    throw usageError("a tar stream can't be combined with several sources", PATH);
  if (target.kind === "guest") return;
  const isDirectory = await stat(target.path).then(
    (info) => info.isDirectory(),
    () => false,
  );
  if (!isDirectory) throw usageError(`several sources need a directory, and ${target.path} is not one`, PATH);
}
