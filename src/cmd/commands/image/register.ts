import { resolve } from "node:path";
import { checkImageName } from "../../line/args.ts";
import { usageError } from "../../line/usage.ts";
import { defineCommand } from "../../line/command.ts";

export const command = defineCommand({
  args: {
    name: { type: "positional", required: true, description: "The new image's name." },
    rootfs: { type: "string", valueHint: "file", description: "An ext4 file system image." },
    kernel: { type: "string", valueHint: "name", description: "A kernel from banger kernel list." },
  },
  json: true,
  examples: [["banger image register mine --rootfs ./mine.ext4 --kernel mine", "copies the file into a new image"]],
  next: "banger vm run --image NAME",
  run: async ({ args, client, json, out }) => {
    if (args.rootfs === undefined || args.kernel === undefined)
      throw usageError("banger image register needs --rootfs FILE and --kernel NAME", ["image", "register"]);
    const image = await (
      await client()
    ).call("image.register", {
      name: checkImageName("NAME", args.name),
      rootfs: resolve(args.rootfs),
      kernel: checkImageName("--kernel", args.kernel),
    });
    if (json) out.json(image);
    else out.line(image.name);
  },
});
