import type { Privileged } from "../privileged.ts";
import type { Step } from "../../step.ts";

/** The VM's uid. The helper takes one when the VM's first thing is made; it is given back when the last one is gone. */
export function uidSlot(privileged: Privileged): Step {
  return {
    name: "uid-slot",
    do: async () => {},
    undo: async ({ id }) => {
      await privileged.call("priv.release_vm", { vm: id });
    },
  };
}
