import { defineCommand } from "../../../line/command.ts";
import { BangerError } from "../../../../shared/errors.ts";

export const command = defineCommand({
  args: {
    "dry-run": { type: "boolean", description: "Shows what would go." },
  },
  json: true,
  examples: [["banger image cache prune --dry-run", "what would go"]],
  run: async () => {
    throw new BangerError("NOT_YET", "nothing is pulled yet, so nothing of it is kept", { hint: "banger gc" });
  },
});
