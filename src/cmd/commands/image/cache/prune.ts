import { defineCommand } from "../../../line/command.ts";
import { BangerError } from "../../../../shared/errors.ts";

export const command = defineCommand({
  args: {
    "dry-run": { type: "boolean", description: "Lists layers without removing them." },
  },
  json: true,
  examples: [["banger image cache prune --dry-run", "lists layers that would be removed"]],
  run: async () => {
    throw new BangerError("NOT_YET", "images can't be pulled yet, so there are no layers to remove", {
      hint: "banger gc",
    });
  },
});
