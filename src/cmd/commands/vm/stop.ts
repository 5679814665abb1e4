import { VMS } from "../../line/args.ts";
import { defineCommand } from "../../line/command.ts";
import { changeMany } from "../../vm/many.ts";

export const command = defineCommand({
  args: {},
  variadic: VMS,
  json: true,
  examples: [["banger vm stop box", "stops box and keeps its disks"]],
  next: "banger vm start NAME",
  run: async (invocation) => await changeMany(invocation, "vm.stop", invocation.many),
});
