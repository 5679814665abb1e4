import { checkImageName } from "../../line/args.ts";
import { defineCommand } from "../../line/command.ts";

export const command = defineCommand({
  args: {
    image: {
      type: "positional",
      required: true,
      valueHint: "name",
      description: "A catalog image: debian-trixie.",
    },
    force: { type: "boolean", alias: "f", description: "Rebuilds the image even if it exists." },
  },
  json: true,
  examples: [
    ["banger image build debian-trixie", "builds the image unless it exists"],
    ["banger image build --force debian-trixie", "rebuilds the image with today's packages"],
  ],
  next: "banger vm run --image NAME",
  run: async ({ args, client, json, out }) => {
    const image = await (
      await client()
    ).call("image.build", { name: checkImageName("NAME", args.image), force: args.force === true });
    if (json) out.json(image);
    else out.line(image.name);
  },
});
