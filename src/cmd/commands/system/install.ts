import { defineCommand } from "../../command.ts";
import { BangerError } from "../../../shared/errors.ts";

export const command = defineCommand({
  args: {
    owner: { type: "string", valueHint: "user", description: "Whose sandboxes these will be." },
  },
  json: true,
  examples: [["sudo banger system install --owner $USER", "VMs under Firecracker, in a jail"]],
  run: async () => {
    throw new BangerError(
      "NOT_YET",
      "the installed system is not built yet; everything works in rootless mode, without it",
      { hint: "banger vm run" },
    );
  },
});
