import { VMS } from "../../line/args.ts";
import { defineCommand } from "../../line/command.ts";
import { changeMany } from "../../vm/many.ts";

export const command = defineCommand({
  args: {},
  variadic: VMS,
  json: true,
  examples: [["banger vm start box", "starts box and waits until it is ready"]],
  next: "banger exec NAME -- CMD",
  run: async (invocation) => await changeMany(invocation, "vm.start", invocation.many),
});
