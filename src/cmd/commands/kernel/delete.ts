import { checkImageName } from "../../line/args.ts";
import { defineCommand } from "../../line/command.ts";

export const command = defineCommand({
  args: { kernel: { type: "positional", required: true, valueHint: "name", description: "The kernel to delete." } },
  json: true,
  examples: [["banger kernel rm mine", "deletes the kernel, unless an image or VM uses it"]],
  next: "banger kernel list",
  run: async ({ args, client, json, out }) => {
    const name = checkImageName("NAME", args.kernel);
    await (await client()).call("kernel.delete", { name });
    if (json) out.json({ name });
    else out.line(name);
  },
});
