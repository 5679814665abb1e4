import { rm } from "node:fs/promises";
import { join } from "node:path";
import { createRootOverlay } from "../root-overlay.ts";
import type { Step } from "../../step.ts";

export const rootOverlayPath = (stateDir: string): string => join(stateDir, "root.qcow2");

/** The root disk: an overlay over the image. */
export function rootOverlay(): Step {
  return {
    name: "root-overlay",
    do: async ({ dirs, image, vm, signal, progress }) => {
      progress({ stage: "disk", message: "Creating disks" });
      await createRootOverlay(rootOverlayPath(dirs.state), image.rootfsPath, vm.spec.systemOverlayBytes, signal);
    },
    undo: async ({ dirs }) => {
      await rm(rootOverlayPath(dirs.state), { force: true });
    },
  };
}
