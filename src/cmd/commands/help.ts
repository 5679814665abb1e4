import { planCommand } from "../line/parse.ts";
import { defineCommand } from "../line/command.ts";
import { commandHelp, groupHelp } from "../line/help.ts";

export const command = defineCommand({
  args: {},
  variadic: { name: "command", description: "The command, such as vm run.", least: 0 },
  examples: [["banger help vm run", "shows the same as banger vm run --help"]],
  run: async ({ many, tree, out }) => {
    const plan = await planCommand([...many, "--help"], tree);
    if (plan.kind === "group-help") out.data(groupHelp(plan.path, plan.group));
    if (plan.kind === "command-help") out.data(commandHelp(plan.path, plan.command, plan.entry));
  },
});
