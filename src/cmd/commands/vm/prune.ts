import { isatty } from "node:tty";
import { usageError } from "../../line/usage.ts";
import { defineCommand } from "../../line/command.ts";
import { changeMany } from "../../vm/many.ts";

/** Under way: neither running nor to be deleted. */
const PASSING = new Set(["running", "starting", "stopping"]);

export const command = defineCommand({
  args: { force: { type: "boolean", alias: "f", description: "Doesn't ask." } },
  json: true,
  examples: [
    ["banger vm prune", "shows what would go, and asks"],
    ["banger vm prune -f", "doesn't ask"],
  ],
  next: "banger gc",
  run: async (invocation) => {
    const { args, client, json, out, interrupts } = invocation;
    const vms = (await (await client()).call("vm.list", { all: true })).filter(({ state }) => !PASSING.has(state));
    if (vms.length === 0) {
      if (json) out.json([]);
      else out.note("every VM is running: nothing to delete");
      return 0;
    }
    if (args.force !== true) {
      if (!isatty(0) || !out.stderr.isTerminal)
        throw usageError("there is no terminal to ask on; -f deletes without asking", ["vm", "prune"]);
      out.note(`to be deleted with their disks: ${vms.map(({ name, state }) => `${name} (${state})`).join(", ")}`);
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
