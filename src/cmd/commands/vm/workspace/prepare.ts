import { defineCommand } from "../../../line/command.ts";
import { BangerError } from "../../../../shared/errors.ts";

export const command = defineCommand({
  args: {
    vm: { type: "positional", required: true, description: "The VM." },
    path: { type: "positional", required: false, description: "The repository; else the one you are in." },
    mode: { type: "enum", options: ["overlay", "full_copy"], description: "A shallow clone, or the whole history." },
    branch: { type: "string", description: "A new branch, made in the guest only." },
    from: { type: "string", valueHint: "ref", description: "What the branch begins at." },
    "include-untracked": { type: "boolean", description: "Untracked files too, never ignored ones." },
    "dry-run": { type: "boolean", description: "Prints the files that would be copied." },
  },
  json: true,
  examples: [["banger vm workspace prepare box .", "this repository at /root/repo of box"]],
  run: async () => {
    throw new BangerError("NOT_YET", "workspaces are not built yet", { hint: "banger cp . box:/root/repo" });
  },
});
