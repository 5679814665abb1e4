import { BangerError } from "../../../shared/errors.ts";
import { defineCommand } from "../../line/command.ts";

export const command = defineCommand({
  args: {
    owner: {
      type: "string",
      valueHint: "user",
      description: "The user who will own the VMs; default: the caller of sudo.",
    },
    "firecracker-dir": {
      type: "string",
      valueHint: "dir",
      description: "Directory of firecracker and jailer; default: the system's, or a downloaded release.",
    },
    "no-firecracker": {
      type: "boolean",
      description: "Installs without Firecracker; VMs can't start until it is added.",
    },
  },
  json: true,
  examples: [["sudo banger system install --owner $USER", "installs banger for you"]],
  next: "banger doctor",
  run: async ({ args, json, out }) => {
    const directory = args["firecracker-dir"];
    if (directory !== undefined && args["no-firecracker"] === true)
      throw new BangerError("USAGE", "--firecracker-dir and --no-firecracker can't be combined");
    const { installSystem } = await import("../../system/install.ts");
    const result = await installSystem({
      owner: args.owner ?? null,
      firecracker: directory !== undefined ? { directory } : args["no-firecracker"] === true ? "none" : null,
      say: (message) => out.note(message),
    });
    if (json) return out.json(result);
    const what =
      result.changed.length === 0 ? "nothing changed" : `${result.changed.length} files and directories changed`;
    out.line(`banger ${result.version} is installed for ${result.owner} and running (${what})`);
  },
});
