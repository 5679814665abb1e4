/** The `kernel.*` methods. */

import { BangerError } from "../../shared/errors.ts";
import type { ImageStore } from "../image/store.ts";
import type { KernelStore } from "../kernel/store.ts";
import type { VmTable } from "../store/vms.ts";
import type { HandlersOf } from "./handlers.ts";

export function createKernelHandlers(kernels: KernelStore, images: ImageStore, vms: VmTable): HandlersOf<"kernel"> {
  return {
    "kernel.list": async () => [...(await kernels.list())],
    "kernel.show": async ({ name }) => await kernels.show(name),
    "kernel.import": async (input, context) => await kernels.import(input, context),
    "kernel.delete": async ({ name }) => {
      const users = [
        ...(await images.list()).filter(({ kernel }) => kernel === name).map((image) => `image ${image.name}`),
        ...vms
          .list()
          .filter(({ kernel }) => kernel === name)
          .map((vm) => `VM ${vm.name}`),
      ];
      if (users.length > 0) throw new BangerError("IN_USE", `the kernel ${name} is used by ${users.join(", ")}`);
      await kernels.delete(name);
      return {};
    },
  };
}
