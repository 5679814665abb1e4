import { VM_ARG, checkVmRef, readWhole } from "../../line/args.ts";
import { defineCommand } from "../../line/command.ts";

export const command = defineCommand({
  args: {
    ...VM_ARG,
    follow: { type: "boolean", alias: "f", description: "Follows the log until ctrl-c." },
    tail: { type: "string", alias: "n", valueHint: "lines", description: "Shows only the last N lines." },
    vmm: { type: "boolean", description: "Shows the VMM's log instead of the serial console." },
  },
  json: true,
  examples: [
    ["banger logs box", "shows the guest's console"],
    ["banger logs -f -n 20 box", "shows the last 20 lines, then follows"],
    ["banger logs --vmm box", "shows the VMM's log"],
  ],
  next: "banger ssh NAME",
  run: async ({ args, client, json, out, interrupts }) => {
    const tailLines = args.tail === undefined ? undefined : readWhole("--tail", args.tail, 0, 1_000_000);
    const daemon = await client();
    const request = {
      vm: checkVmRef(args.vm),
      source: args.vmm === true ? ("vmm" as const) : ("serial" as const),
      follow: args.follow === true,
      ...(tailLines === undefined ? {} : { tailLines }),
    };
    using reader = out.watchReader();
    try {
      await daemon.call("vm.logs", request, {
        data: (data, bytes) => (json ? out.jsonLine({ data }) : out.data(bytes)),
        stop: reader.signal,
      });
    } catch (thrown) {
      reader.signal.throwIfAborted();
      // The way to end following is no failure to talk about.
      if (args.follow !== true || interrupts.exitStatus === null) throw thrown;
      return interrupts.exitStatus;
    }
    return 0;
  },
});
