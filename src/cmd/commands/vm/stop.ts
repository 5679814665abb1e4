import { VMS } from "../../args.ts";
import { defineCommand } from "../../command.ts";
import { changeMany } from "../../many.ts";

export const command = defineCommand({
  args: {},
  variadic: VMS,
  json: true,
  examples: [["banger vm stop box", "stops box, keeping what it wrote"]],
  next: "banger vm start NAME",
  run: async (invocation) => await changeMany(invocation, "vm.stop", invocation.many),
});
