import { checkImageName } from "../../line/args.ts";
import { defineCommand } from "../../line/command.ts";

export const command = defineCommand({
  args: {
    image: {
      type: "positional",
      required: true,
      valueHint: "name",
      description: "An image of the catalog: debian-trixie.",
    },
    force: { type: "boolean", alias: "f", description: "Builds it anew though it is here." },
  },
  json: true,
  examples: [
    ["banger image build debian-trixie", "builds it unless it is here"],
    ["banger image build --force debian-trixie", "builds it anew, with today's packages"],
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
