import { VM_ARG, checkVmRef } from "../../line/args.ts";
import { defineCommand } from "../../line/command.ts";
import { flattenRecord } from "../../terminal/format.ts";
import { formatTable } from "../../terminal/output.ts";

export const command = defineCommand({
  args: VM_ARG,
  json: true,
  examples: [["banger vm show box", "prints box's record"]],
  next: "banger vm stats NAME, banger logs NAME",
  run: async ({ args, client, json, out }) => {
    const vm = await (await client()).call("vm.show", { vm: checkVmRef(args.vm) });
    if (json) out.json(vm);
    else out.data(formatTable(flattenRecord(vm)));
  },
});
