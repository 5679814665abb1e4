import { defineCommand } from "../../../line/command.ts";
import { BangerError } from "../../../../shared/errors.ts";

export const command = defineCommand({
  args: {
    vm: { type: "positional", required: true, description: "The VM." },
    "base-commit": {
      type: "string",
      valueHint: "commit",
      description: "The commit to compare with; default: the one it was prepared at.",
    },
  },
  examples: [["banger vm workspace export box | git apply", "applies the changes made in box here"]],
  run: async () => {
    throw new BangerError("NOT_YET", "workspaces are not available yet", { hint: "banger cp box:/root/repo ." });
  },
});
