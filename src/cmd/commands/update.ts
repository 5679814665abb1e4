import { defineCommand } from "../line/command.ts";
import { BangerError } from "../../shared/errors.ts";

export const command = defineCommand({
  args: {
    check: { type: "boolean", description: "Checks for a newer version." },
    to: { type: "string", valueHint: "version", description: "Installs this version." },
    "dry-run": { type: "boolean", description: "Prints what would be done and does nothing." },
    force: { type: "boolean", description: "Reinstalls even if this version is already installed." },
    rollback: { type: "boolean", description: "Goes back to the previous version." },
  },
  json: true,
  examples: [["banger update --check", "checks for a newer version"]],
  run: async () => {
    throw new BangerError(
      "NOT_YET",
      "banger can't update itself yet: replace the executable with the new one, then stop the daemon; VMs keep running",
      { hint: "banger daemon stop" },
    );
  },
});
