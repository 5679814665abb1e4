import { checkImageName } from "../../line/args.ts";
import { defineCommand } from "../../line/command.ts";

export const command = defineCommand({
  args: { image: { type: "positional", required: true, valueHint: "name", description: "The image to delete." } },
  json: true,
  examples: [["banger image delete debian-trixie", "deletes the image, unless a VM uses it"]],
  next: "banger image list",
  run: async ({ args, client, json, out }) => {
    const name = checkImageName("NAME", args.image);
    await (await client()).call("image.delete", { name });
    if (json) out.json({ name });
    else out.line(name);
  },
});
