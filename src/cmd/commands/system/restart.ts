import { defineCommand } from "../../command.ts";
import { BangerError } from "../../../shared/errors.ts";

export const command = defineCommand({
  args: {},
  json: true,
  examples: [["sudo banger system restart", "restarts the daemons"]],
  run: async () => {
    throw new BangerError(
      "NOT_YET",
      "the installed system is not built yet; everything works in rootless mode, without it",
      { hint: "banger daemon stop" },
    );
  },
});
