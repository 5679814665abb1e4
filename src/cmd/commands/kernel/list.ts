import { defineCommand } from "../../line/command.ts";
import { formatAge } from "../../terminal/format.ts";
import { formatBytes } from "../../../shared/text/sizes.ts";
import { BangerError } from "../../../shared/errors.ts";

export const command = defineCommand({
  args: { available: { type: "boolean", description: "Lists kernels that can be downloaded (not available yet)." } },
  json: true,
  examples: [["banger kernel list", "lists kernels"]],
  next: "banger kernel import NAME --from FILE",
  run: async ({ args, client, json, out }) => {
    if (args.available === true)
      throw new BangerError("NOT_YET", "kernels can't be downloaded yet", { hint: "banger kernel import --help" });
    const kernels = await (await client()).call("kernel.list", {});
    if (json) return out.json(kernels);
    const now = Date.now();
    out.table(
      ["NAME", "VERSION", "ARCH", "SIZE", "INITRD", "CREATED"],
      kernels.map((one) => [
        one.name,
        one.version ?? "-",
        one.arch,
        formatBytes(one.bytes),
        one.hasInitrd ? "yes" : "no",
        formatAge(now - Date.parse(one.createdAt)),
      ]),
    );
  },
});
