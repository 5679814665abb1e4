import { defineCommand } from "../../line/command.ts";
import { BangerError } from "../../../shared/errors.ts";

export const command = defineCommand({
  args: {
    ref: { type: "positional", required: true, description: "An image in a container registry." },
    name: { type: "string", description: "The new image's name." },
    size: { type: "string", description: "Size of the root file system." },
    kernel: { type: "string", valueHint: "name", description: "The kernel to boot the image with." },
  },
  json: true,
  examples: [["banger image pull debian:trixie --name debian", "creates an image from a container image"]],
  run: async () => {
    throw new BangerError("NOT_YET", "images can't be pulled from a container registry yet", {
      hint: "banger image build debian-trixie",
    });
  },
});
