import { checkImageName } from "../../line/args.ts";
import { defineCommand } from "../../line/command.ts";
import { flattenRecord } from "../../terminal/format.ts";
import { formatTable } from "../../terminal/output.ts";

export const command = defineCommand({
  args: { kernel: { type: "positional", required: true, valueHint: "name", description: "The kernel to show." } },
  json: true,
  examples: [["banger kernel show mine", "shows the kernel's version, source and digest"]],
  next: "banger vm run --kernel NAME",
  run: async ({ args, client, json, out }) => {
    const kernel = await (await client()).call("kernel.show", { name: checkImageName("NAME", args.kernel) });
    if (json) out.json(kernel);
    else out.data(formatTable(flattenRecord(kernel)));
  },
});
