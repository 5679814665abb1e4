import { rm } from "node:fs/promises";
import { dirname } from "node:path";
import { ensurePrivateDirectory } from "../../../shared/places/private-directory.ts";
import type { Step } from "../step.ts";

/** The directory of the VM's sockets. */
export function runtimeDirectory(): Step {
  return {
    name: "runtime-directory",
    do: async ({ dirs }) => {
      await ensurePrivateDirectory(dirname(dirs.runtime));
      await ensurePrivateDirectory(dirs.runtime);
    },
    undo: async ({ dirs }) => {
      await rm(dirs.runtime, { recursive: true, force: true });
    },
  };
}
