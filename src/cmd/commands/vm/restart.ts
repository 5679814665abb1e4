import { VMS } from "../../line/args.ts";
import { defineCommand } from "../../line/command.ts";
import { changeMany } from "../../vm/many.ts";

export const command = defineCommand({
  args: {},
  variadic: VMS,
  json: true,
  examples: [["banger vm restart box", "stops box and starts it again"]],
  next: "banger exec NAME -- CMD",
  run: async (invocation) => await changeMany(invocation, "vm.restart", invocation.many),
});
