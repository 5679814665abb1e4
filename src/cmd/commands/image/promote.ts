import { defineCommand } from "../../line/command.ts";
import { BangerError } from "../../../shared/errors.ts";

export const command = defineCommand({
  args: {
    vm: { type: "positional", required: true, description: "The VM whose disk becomes an image." },
    name: { type: "positional", required: true, description: "The new image's name." },
  },
  json: true,
  examples: [["banger image promote box mine", "creates an image from box's disk"]],
  run: async () => {
    throw new BangerError("NOT_YET", "creating an image from a VM is not available yet", {
      hint: "banger image register --help",
    });
  },
});
