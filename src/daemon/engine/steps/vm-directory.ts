import { mkdir, rm } from "node:fs/promises";
import { forgetHost } from "../../guest/ssh/keys.ts";
import type { Step } from "../step.ts";

/** The VM's own directory under the state directory. Its undo forgets the VM's host key too. */
export function vmDirectory(): Step {
  return {
    name: "vm-directory",
    do: async ({ dirs }) => {
      await mkdir(dirs.state, { recursive: true, mode: 0o700 });
    },
    undo: async ({ id, dirs, paths }) => {
      await forgetHost(paths, id);
      await rm(dirs.state, { recursive: true, force: true });
    },
  };
}
