/** The `image.*` methods. */

import { BangerError } from "../../shared/errors.ts";
import type { ImageStore } from "../image/store.ts";
import type { VmTable } from "../store/vms.ts";
import type { HandlersOf } from "./handlers.ts";

export function createImageHandlers(images: ImageStore, vms: VmTable): HandlersOf<"image"> {
  /** A VM's overlay is worthless without the very file it was made over. @throws BangerError IN_USE */
  const refuseWhileUsed = (name: string): void => {
    const users = vms.list().filter(({ image }) => image === name);
    if (users.length === 0) return;
    throw new BangerError("IN_USE", `the image ${name} is used by ${users.map((vm) => vm.name).join(", ")}`, {
      hint: `banger vm delete ${users.map((vm) => vm.name).join(" ")}`,
      details: { vms: users.map((vm) => vm.name) },
    });
  };
  return {
    "image.build": async ({ name, force }, context) => {
      if (force) refuseWhileUsed(name);
      return await images.ensure(name, context, force);
    },
    "image.register": async (input, context) => await images.register(input, context),
    "image.list": async () => [...(await images.list())],
    "image.show": async ({ name }) => await images.show(name),
    "image.delete": async ({ name }) => {
      refuseWhileUsed(name);
      await images.delete(name);
      return {};
    },
  };
}
