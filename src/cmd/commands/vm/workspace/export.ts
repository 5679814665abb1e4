import { defineCommand } from "../../../line/command.ts";
import { BangerError } from "../../../../shared/errors.ts";

export const command = defineCommand({
  args: {
    vm: { type: "positional", required: true, description: "The VM." },
    "base-commit": {
      type: "string",
      valueHint: "commit",
      description: "What to compare with; else the commit it was prepared at.",
    },
  },
  examples: [["banger vm workspace export box | git apply", "what changed in box, here"]],
  run: async () => {
    throw new BangerError("NOT_YET", "workspaces are not built yet", { hint: "banger cp box:/root/repo ." });
  },
});
