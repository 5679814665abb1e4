import { VM_ARG, SPEC_ARGS, checkVmRef, readSpec } from "../../line/args.ts";
import { usageError } from "../../line/usage.ts";
import { defineCommand } from "../../line/command.ts";

export const command = defineCommand({
  args: { ...VM_ARG, ...SPEC_ARGS },
  json: true,
  examples: [
    ["banger vm set box --memory 4G --vcpu 4", "gives box more memory and CPUs at its next start"],
    ["banger vm set box --disk-size 40G", "enlarges /root; a disk can't shrink"],
  ],
  next: "banger vm start NAME",
  run: async ({ args, client, json, out }) => {
    const spec = readSpec(args);
    if (Object.keys(spec).length === 0) throw usageError("nothing to change: give at least one flag", ["vm", "set"]);
    const vm = await (await client()).call("vm.set", { vm: checkVmRef(args.vm), spec });
    if (json) out.json(vm);
    else out.line(vm.name);
  },
});
