import { defineCommand } from "../../command.ts";
import { BangerError } from "../../../shared/errors.ts";

export const command = defineCommand({
  args: {
    force: { type: "boolean", description: "Though VMs run." },
    purge: { type: "boolean", description: "Removes state as well." },
  },
  json: true,
  examples: [["sudo banger system uninstall", "removes units and executable"]],
  run: async () => {
    throw new BangerError(
      "NOT_YET",
      "the installed system is not built yet; everything works in rootless mode, without it",
      { hint: "banger daemon stop" },
    );
  },
});
