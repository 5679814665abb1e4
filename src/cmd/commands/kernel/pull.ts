import { defineCommand } from "../../line/command.ts";
import { BangerError } from "../../../shared/errors.ts";

export const command = defineCommand({
  args: {
    name: { type: "positional", required: true, description: "A kernel from banger kernel list --available." },
    force: { type: "boolean", description: "Downloads the kernel even if it exists." },
  },
  json: true,
  examples: [["banger kernel pull NAME", "downloads the kernel"]],
  run: async () => {
    throw new BangerError("NOT_YET", "kernels can't be downloaded yet", { hint: "banger kernel import --help" });
  },
});
