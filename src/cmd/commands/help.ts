import { planCommand } from "../line/parse.ts";
import { defineCommand } from "../line/command.ts";
import { commandHelp, groupHelp } from "../line/help.ts";

export const command = defineCommand({
  args: {},
  variadic: { name: "command", description: "The command's words.", least: 0 },
  examples: [["banger help vm run", "the same as banger vm run --help"]],
  run: async ({ many, out }) => {
    const { ROOT } = await import("./index.ts");
    const plan = await planCommand([...many, "--help"], ROOT);
    if (plan.kind === "group-help") out.data(groupHelp(plan.path, plan.group));
    if (plan.kind === "command-help") out.data(commandHelp(plan.path, plan.command, plan.entry));
  },
});
