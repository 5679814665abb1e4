import { defineCommand } from "../../../line/command.ts";
import { BangerError } from "../../../../shared/errors.ts";

export const command = defineCommand({
  args: {
    vm: { type: "positional", required: true, description: "The VM." },
    path: { type: "positional", required: false, description: "The repository; default: the current one." },
    mode: {
      type: "enum",
      options: ["overlay", "full_copy"],
      description: "Copies a shallow clone, or the whole history.",
    },
    branch: { type: "string", description: "Creates this branch in the guest." },
    from: { type: "string", valueHint: "ref", description: "Starts the branch here." },
    "include-untracked": { type: "boolean", description: "Copies untracked files, too, but not ignored ones." },
    "dry-run": { type: "boolean", description: "Prints the files to copy and copies nothing." },
  },
  json: true,
  examples: [["banger vm workspace prepare box .", "copies this repository to /root/repo in box"]],
  run: async () => {
    throw new BangerError("NOT_YET", "workspaces are not available yet", { hint: "banger cp . box:/root/repo" });
  },
});
