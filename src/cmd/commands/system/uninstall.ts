import { BangerError } from "../../../shared/errors.ts";
import { defineCommand } from "../../line/command.ts";

export const command = defineCommand({
  args: {
    force: { type: "boolean", description: "Stops running VMs first." },
    purge: { type: "boolean", description: "Removes VMs, images and settings, too." },
  },
  json: true,
  examples: [
    ["sudo banger system uninstall", "removes the units and the executable, keeps VMs and images"],
    ["sudo banger system uninstall --purge", "removes everything"],
  ],
  run: async ({ args, json, out }) => {
    const { uninstallSystem } = await import("../../system/uninstall.ts");
    const result = await uninstallSystem({
      force: args.force === true,
      purge: args.purge === true,
      say: (message) => out.note(message),
    });
    if (result.left.length > 0)
      throw new BangerError("SOME_FAILED", `some things could not be removed:\n${result.left.join("\n")}`, {
        details: { left: result.left },
      });
    if (json) return out.json(result);
    out.line(
      result.stateDir === null
        ? "banger is uninstalled"
        : `banger is uninstalled; ${result.stateDir} keeps your VMs and images`,
    );
  },
});
