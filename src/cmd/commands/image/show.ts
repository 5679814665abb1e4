import { checkImageName } from "../../line/args.ts";
import { defineCommand } from "../../line/command.ts";
import { flattenRecord } from "../../terminal/format.ts";
import { formatTable } from "../../terminal/output.ts";

export const command = defineCommand({
  args: { image: { type: "positional", required: true, valueHint: "name", description: "The image to show." } },
  json: true,
  examples: [["banger image show debian-trixie", "shows the image's source, digest and kernel"]],
  next: "banger kernel show NAME",
  run: async ({ args, client, json, out }) => {
    const image = await (await client()).call("image.show", { name: checkImageName("NAME", args.image) });
    if (json) out.json(image);
    else out.data(formatTable(flattenRecord(image)));
  },
});
