import { defineCommand } from "../line/command.ts";
import { BangerError } from "../../shared/errors.ts";

export const command = defineCommand({
  args: {
    check: { type: "boolean", description: "Says whether there is a newer one." },
    to: { type: "string", valueHint: "version", description: "This version." },
    "dry-run": { type: "boolean", description: "Says what would be done." },
    force: { type: "boolean", description: "Though it is the same version." },
    rollback: { type: "boolean", description: "Goes back to the version before." },
  },
  json: true,
  examples: [["banger update --check", "whether there is a newer one"]],
  run: async () => {
    throw new BangerError(
      "NOT_YET",
      "banger can't update itself yet: put the new executable in the place of the old one and stop the daemon; VMs keep running",
      { hint: "banger daemon stop" },
    );
  },
});
