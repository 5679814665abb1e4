import { BangerError } from "../../shared/errors.ts";
import { removeJail } from "../jail/jail.ts";
import { scopePids } from "../jail/scope.ts";
import { type Verb, vmLock } from "../verb.ts";

export const cleanupJailerChroot: Verb<"priv.cleanup_jailer_chroot"> = {
  gates: [],
  facts: [],
  byDesign: {
    rule: "works below the chroot base and follows no link; enters a directory only by descriptor, and only if it belongs to a VM or the owner; detaches mounts below and never enters them; removes any name, any depth and any number of files without blocking other callers",
    stops:
      "deleting or unmounting a host tree; making root delete root's files in a directory that the owner moved into the jail; a jail that can't be removed",
  },
  lock: vmLock,
  run: async ({ vm }, context) => {
    if (scopePids(context, vm).length > 0) throw new BangerError("IN_USE", `${vm} is running`);
    await removeJail(context, vm);
    return {};
  },
};
