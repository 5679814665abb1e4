import { defineCommand } from "../../line/command.ts";
import { formatAge } from "../../terminal/format.ts";
import { formatBytes } from "../../../shared/text/sizes.ts";

export const command = defineCommand({
  args: {},
  json: true,
  examples: [["banger image list", "lists images"]],
  next: "banger vm run --image NAME",
  run: async ({ client, json, out }) => {
    const images = await (await client()).call("image.list", {});
    if (json) return out.json(images);
    const now = Date.now();
    out.table(
      ["NAME", "DISTRO", "SIZE", "ON DISK", "KERNEL", "CREATED"],
      images.map((one) => [
        one.name,
        `${one.distro} ${one.release}`,
        formatBytes(one.rootfsBytes),
        formatBytes(one.allocatedBytes),
        one.kernelVersion ?? one.kernel ?? "-",
        formatAge(now - Date.parse(one.createdAt)),
      ]),
    );
  },
});
