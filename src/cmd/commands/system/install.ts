import { BangerError } from "../../../shared/errors.ts";
import { defineCommand } from "../../line/command.ts";

export const command = defineCommand({
  args: {
    owner: {
      type: "string",
      valueHint: "user",
      description: "Whose sandboxes these will be; default: who called sudo.",
    },
    "firecracker-dir": {
      type: "string",
      valueHint: "dir",
      description: "Where firecracker and jailer are; default: the system's, else the pinned release, downloaded.",
    },
    "no-firecracker": { type: "boolean", description: "Installs without; no VM starts until there is one." },
  },
  json: true,
  examples: [["sudo banger system install --owner $USER", "VMs under Firecracker, in a jail"]],
  next: "banger doctor",
  run: async ({ args, json, out }) => {
    const directory = args["firecracker-dir"];
    if (directory !== undefined && args["no-firecracker"] === true)
      throw new BangerError("USAGE", "--firecracker-dir and --no-firecracker exclude each other");
    const { installSystem } = await import("../../system/install.ts");
    const result = await installSystem({
      owner: args.owner ?? null,
      firecracker: directory !== undefined ? { directory } : args["no-firecracker"] === true ? "none" : null,
      say: (message) => out.note(message),
    });
    if (json) return out.json(result);
    const what = result.changed.length === 0 ? "nothing changed" : `${result.changed.length} files and directories`;
    out.line(`banger ${result.version} is installed for ${result.owner} and answers (${what})`);
  },
});
