import { defineCommand } from "../../line/command.ts";
import { BangerError } from "../../../shared/errors.ts";

export const command = defineCommand({
  args: {
    ref: { type: "positional", required: true, description: "An image of a container registry." },
    name: { type: "string", description: "What it is called here." },
    size: { type: "string", description: "Size of the root file system." },
    kernel: { type: "string", valueHint: "name", description: "The kernel it boots." },
  },
  json: true,
  examples: [["banger image pull debian:trixie --name debian", "an image made of a container's"]],
  run: async () => {
    throw new BangerError("NOT_YET", "images can't be pulled from a container registry yet", {
      hint: "banger image build debian-trixie",
    });
  },
});
