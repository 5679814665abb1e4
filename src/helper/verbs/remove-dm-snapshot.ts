import { detachStrayLoops, discardCow, removeDevices } from "../disk/dm.ts";
import { dmIsOurs } from "../gates.ts";
import { type Verb, vmLock } from "../verb.ts";

export const removeDmSnapshot: Verb<"priv.remove_dm_snapshot"> = {
  gates: [],
  facts: [dmIsOurs],
  byDesign: {
    rule: "the names are made from the VM's id: `fc-rootfs-<vm>`, `fc-rootfs-<vm>-base`, and the loops that hold its COW file; never while the VM runs, and no node of the device is left in a jail",
    stops: "tearing down host volumes; a node that comes to mean a device of the host's, which got the number anew",
  },
  lock: vmLock,
  run: async ({ vm, discard }, context) => {
    await removeDevices(context, vm);
    detachStrayLoops(vm);
    if (discard) discardCow(context, vm);
    return {};
  },
};
