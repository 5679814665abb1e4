import { dmName } from "../../shared/host-names.ts";
import { createSnapshot } from "../disk/dm.ts";
import { ownersOnlyFile, rootsFile } from "../gates.ts";
import { takeSlot } from "../jail/slots.ts";
import { type Verb, vmLock } from "../verb.ts";

export const createDmSnapshot: Verb<"priv.create_dm_snapshot"> = {
  gates: [],
  facts: [ownersOnlyFile, rootsFile],
  byDesign: {
    rule: "image and VM are ids; the name is `fc-rootfs-<vm>`; root owns the COW file; loops are attached to the descriptor that was checked",
    stops: "attaching a loop to a host disk or a planted link; feeding the kernel a crafted COW file",
  },
  lock: vmLock,
  run: async ({ vm, image, root_bytes }, context) => {
    // Reserved before anything of the VM exists, so that `release_vm` can release it after a crash.
    takeSlot(context, vm);
    const { baseLoop, cowLoop, bytes, kept } = await createSnapshot(context, vm, image, root_bytes);
    return {
      dm_name: dmName(vm),
      dm_device: `/dev/mapper/${dmName(vm)}`,
      base_loop: baseLoop,
      cow_loop: cowLoop,
      bytes,
      kept,
    };
  },
};
