import { VM_ARG, checkVmRef, readWhole } from "../../args.ts";
import { defineCommand } from "../../command.ts";

export const command = defineCommand({
  args: {
    ...VM_ARG,
    follow: { type: "boolean", alias: "f", description: "Goes on as the log grows, until ctrl-c." },
    tail: { type: "string", alias: "n", valueHint: "lines", description: "Only so many of the last lines." },
    vmm: { type: "boolean", description: "The log of the virtual machine monitor instead of the serial console." },
  },
  json: true,
  examples: [
    ["banger logs box", "the guest's console"],
    ["banger logs -f -n 20 box", "its last lines, and what comes"],
    ["banger logs --vmm box", "what the monitor said"],
  ],
  next: "banger ssh NAME",
  run: async ({ args, client, json, out }) => {
    const tailLines = args.tail === undefined ? undefined : readWhole("--tail", args.tail, 0, 1_000_000);
    await (
      await client()
    ).call(
      "vm.logs",
      {
        vm: checkVmRef(args.vm),
        source: args.vmm === true ? "vmm" : "serial",
        follow: args.follow === true,
        ...(tailLines === undefined ? {} : { tailLines }),
      },
      { data: (data) => (json ? out.jsonLine({ data }) : out.data(data)) },
    );
  },
});
