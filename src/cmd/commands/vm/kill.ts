import { usageError } from "../../line/usage.ts";
import { VMS } from "../../line/args.ts";
import { defineCommand } from "../../line/command.ts";
import { changeMany } from "../../vm/many.ts";
import { suggest } from "../../../shared/text/suggest.ts";

const SIGNALS = ["TERM", "KILL", "INT", "HUP", "QUIT", "USR1", "USR2", "ABRT"] as const;

export const command = defineCommand({
  args: {
    signal: {
      type: "string",
      alias: "s",
      default: "KILL",
      valueHint: "name",
      description: `One of ${SIGNALS.join(", ")}; default: KILL.`,
    },
  },
  variadic: VMS,
  json: true,
  examples: [
    ["banger vm kill box", "cuts the power, which stops box"],
    ["banger vm kill --signal TERM box", "asks box's VMM to end"],
  ],
  next: "banger vm start NAME",
  run: async (invocation) => {
    const name = invocation.args.signal.replace(/^SIG/, "");
    const signal = SIGNALS.find((one) => one === name);
    if (signal === undefined) {
      const near = suggest(name, SIGNALS);
      throw usageError(
        `--signal must be one of ${SIGNALS.join(", ")}, not ${JSON.stringify(name)}${near === null ? "" : `; did you mean ${near}?`}`,
        ["vm", "kill"],
      );
    }
    return await changeMany(invocation, "vm.kill", invocation.many, { signal });
  },
});
