import { isatty } from "node:tty";
import { usageError } from "../../line/usage.ts";
import { defineCommand } from "../../line/command.ts";
import { changeMany } from "../../vm/many.ts";

/** Under way: neither running nor to be deleted. */
const PASSING = new Set(["running", "starting", "stopping"]);

export const command = defineCommand({
  args: { force: { type: "boolean", alias: "f", description: "Deletes without asking." } },
  json: true,
  examples: [
    ["banger vm prune", "lists VMs to delete, then asks"],
    ["banger vm prune -f", "deletes without asking"],
  ],
  next: "banger gc",
  run: async (invocation) => {
    const { args, client, json, out, interrupts } = invocation;
    const vms = (await (await client()).call("vm.list", { all: true })).filter(({ state }) => !PASSING.has(state));
    if (vms.length === 0) {
      if (json) out.json([]);
      else out.note("nothing to delete: there are no stopped VMs");
      return 0;
    }
    if (args.force !== true) {
      if (!isatty(0) || !out.stderr.isTerminal)
        throw usageError("can't ask without a terminal; use -f to delete without asking", ["vm", "prune"]);
      out.note(`VMs to delete with their disks: ${vms.map(({ name, state }) => `${name} (${state})`).join(", ")}`);
      const { confirm } = await import("../../terminal/confirm.ts");
      if (!(await confirm("delete them?", out, interrupts))) {
        out.note("nothing was deleted");
        return 1;
      }
    }
    return await changeMany(
      invocation,
      "vm.delete",
      vms.map(({ id }) => id),
    );
  },
});
