import { detachStrayLoops, discardCow, removeDevices } from "../disk/dm.ts";
import { dmIsOurs } from "../gates.ts";
import { type Verb, vmLock } from "../verb.ts";

export const removeDmSnapshot: Verb<"priv.remove_dm_snapshot"> = {
  gates: [],
  facts: [dmIsOurs],
  byDesign: {
    rule: "makes the names from the VM's id: `fc-rootfs-<vm>`, `fc-rootfs-<vm>-base`, and the loops of its COW file; never while the VM runs; first removes every node of the device from jails",
    stops: "removing host volumes; a leftover node opening a host device that got the same number",
  },
  lock: vmLock,
  run: async ({ vm, discard }, context) => {
    await removeDevices(context, vm);
    detachStrayLoops(vm);
    if (discard) discardCow(context, vm);
    return {};
  },
};
