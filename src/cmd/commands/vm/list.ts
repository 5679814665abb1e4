import { defineCommand } from "../../line/command.ts";
import { formatBytes } from "../../../shared/text/sizes.ts";
import { formatAge } from "../../terminal/format.ts";

export const command = defineCommand({
  args: {
    all: { type: "boolean", alias: "a", description: "Lists stopped VMs, too." },
    quiet: { type: "boolean", alias: "q", description: "Prints ids only." },
  },
  json: true,
  examples: [
    ["banger ps", "lists running VMs"],
    ["banger ps -a", "lists all VMs"],
    ["banger rm $(banger ps -aq)", "deletes every VM"],
  ],
  next: "banger exec NAME -- CMD, banger vm show NAME",
  run: async ({ args, client, json, out }) => {
    const vms = await (await client()).call("vm.list", { all: args.all === true });
    if (json) return out.json(args.quiet === true ? vms.map(({ id }) => id) : vms);
    if (args.quiet === true) return out.data(vms.map(({ id }) => `${id}\n`).join(""));
    const now = Date.now();
    out.table(
      ["ID", "NAME", "STATE", "IMAGE", "ADDRESS", "VCPU", "MEMORY", "DISK", "WORKSPACE", "CREATED"],
      vms.map((vm) => [
        vm.id,
        vm.name,
        vm.state,
        vm.image,
        vm.address ?? "-",
        String(vm.spec.vcpu),
        formatBytes(vm.spec.memoryMiB * 1024 ** 2),
        formatBytes(vm.spec.diskBytes),
        vm.workspace?.guestPath ?? "-",
        formatAge(now - Date.parse(vm.createdAt)),
      ]),
    );
  },
});
