import { createQemuVmm } from "../qemu.ts";
import type { Step } from "../../step.ts";
import { serialLogPath, vmmLogPath } from "../../log-files.ts";
import { identityDiskPath } from "../../steps/identity.ts";
import { rootOverlayPath } from "./root-overlay.ts";
import { workDiskPath } from "../../steps/work-disk.ts";

const qemu = createQemuVmm();

/** The VMM. Its undo ends every process of this VM that the host has, whoever started it. */
export const launch: Step = {
  name: "launch",
  do: async ({ vm, dirs, image, acceleration, signal, progress, outputs }) => {
    progress({ stage: "boot", message: acceleration === "kvm" ? "Booting" : "Booting (emulated)" });
    outputs.launched = await qemu.launch(
      {
        id: vm.id,
        name: vm.name,
        spec: vm.spec,
        acceleration,
        kernelPath: image.kernelPath,
        initrdPath: image.initrdPath,
        rootDiskPath: rootOverlayPath(dirs.state),
        workDiskPath: workDiskPath(dirs.state),
        identityDiskPath: identityDiskPath(dirs.state),
        serialLogPath: serialLogPath(dirs.state),
        vmmLogPath: vmmLogPath(dirs.state),
        runtimeDir: dirs.runtime,
      },
      signal,
    );
  },
  undo: async ({ id, dirs }) => {
    await qemu.destroy(id, dirs.runtime);
  },
};
