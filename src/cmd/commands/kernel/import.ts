import { resolve } from "node:path";
import { checkImageName } from "../../line/args.ts";
import { usageError } from "../../line/usage.ts";
import { defineCommand } from "../../line/command.ts";

export const command = defineCommand({
  args: {
    name: { type: "positional", required: true, description: "The new kernel's name." },
    from: {
      type: "string",
      valueHint: "path",
      description: "A vmlinux, a bzImage, a .deb, or a directory with a kernel.",
    },
    initrd: { type: "string", valueHint: "file", description: "An initrd to boot with the kernel." },
  },
  json: true,
  examples: [
    ["banger kernel import mine --from ./arch/x86/boot/bzImage", "imports a kernel you built"],
    ["banger kernel import cloud --from ./linux-image-cloud-amd64.deb", "imports a distribution's kernel"],
  ],
  next: "banger vm run --kernel NAME",
  run: async ({ args, client, json, out }) => {
    if (args.from === undefined) throw usageError("banger kernel import needs --from PATH", ["kernel", "import"]);
    const kernel = await (
      await client()
    ).call("kernel.import", {
      name: checkImageName("NAME", args.name),
      from: resolve(args.from),
      ...(args.initrd === undefined ? {} : { initrd: resolve(args.initrd) }),
    });
    if (json) out.json(kernel);
    else out.line(kernel.name);
  },
});
