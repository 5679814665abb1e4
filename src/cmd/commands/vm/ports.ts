import { checkVmRef } from "../../line/args.ts";
import { defineCommand } from "../../line/command.ts";

export const command = defineCommand({
  args: {},
  variadic: { name: "vm", description: "Names or ids; default: every running VM.", least: 0 },
  json: true,
  examples: [["banger vm ports box", "lists box's listening ports and their host addresses"]],
  next: "banger vm forward NAME PORT",
  run: async ({ many, client, json, out }) => {
    const ports = await (await client()).call("vm.ports", { vms: many.map(checkVmRef) });
    if (json) return out.json(ports);
    out.table(
      ["VM", "PORT", "PROCESS", "FORWARD", "URL"],
      ports.map(({ vm, port, process, forward, url }) => [
        vm,
        String(port),
        process ?? "-",
        forward ?? "-",
        url ?? "-",
      ]),
    );
  },
});
