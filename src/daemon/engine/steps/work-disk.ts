import { rm } from "node:fs/promises";
import { join } from "node:path";
import { createWorkDisk } from "../disks/work-disk.ts";
import type { Step } from "../step.ts";

export const workDiskPath = (stateDir: string): string => join(stateDir, "work.ext4");

/** The disk mounted at /root. */
export function workDisk(): Step {
  return {
    name: "work-disk",
    do: async ({ dirs, vm, signal }) => {
      await createWorkDisk(workDiskPath(dirs.state), vm.spec.diskBytes, signal);
    },
    undo: async ({ dirs }) => {
      await rm(workDiskPath(dirs.state), { force: true });
    },
  };
}
