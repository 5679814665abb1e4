import { VMS } from "../../line/args.ts";
import { defineCommand } from "../../line/command.ts";
import { changeMany } from "../../vm/many.ts";

export const command = defineCommand({
  args: {},
  variadic: VMS,
  json: true,
  examples: [
    ["banger rm box", "stops box and deletes its disks"],
    ["banger rm one two", "deletes both"],
  ],
  next: "banger ps -a",
  run: async (invocation) => await changeMany(invocation, "vm.delete", invocation.many),
});
