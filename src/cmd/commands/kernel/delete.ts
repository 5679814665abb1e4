import { checkImageName } from "../../line/args.ts";
import { defineCommand } from "../../line/command.ts";

export const command = defineCommand({
  args: { kernel: { type: "positional", required: true, valueHint: "name", description: "The kernel." } },
  json: true,
  examples: [["banger kernel rm mine", "an image or VM that uses it prevents that"]],
  next: "banger kernel list",
  run: async ({ args, client, json, out }) => {
    const name = checkImageName("NAME", args.kernel);
    await (await client()).call("kernel.delete", { name });
    if (json) out.json({ name });
    else out.line(name);
  },
});
