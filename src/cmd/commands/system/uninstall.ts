import { BangerError } from "../../../shared/errors.ts";
import { defineCommand } from "../../line/command.ts";

export const command = defineCommand({
  args: {
    force: { type: "boolean", description: "Though VMs run; they are ended." },
    purge: { type: "boolean", description: "Removes VMs, images and settings as well." },
  },
  json: true,
  examples: [
    ["sudo banger system uninstall", "removes units and executable, keeps VMs' disks and images"],
    ["sudo banger system uninstall --purge", "leaves nothing"],
  ],
  run: async ({ args, json, out }) => {
    const { uninstallSystem } = await import("../../system/uninstall.ts");
    const result = await uninstallSystem({
      force: args.force === true,
      purge: args.purge === true,
      say: (message) => out.note(message),
    });
    if (result.left.length > 0)
      throw new BangerError("SOME_FAILED", `not everything could be removed:\n${result.left.join("\n")}`, {
        details: { left: result.left },
      });
    if (json) return out.json(result);
    out.line(
      result.stateDir === null ? "banger is gone" : `banger is gone; ${result.stateDir} holds your VMs and images`,
    );
  },
});
