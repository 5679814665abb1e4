import { repairSnapshot } from "../ext4.ts";
import { type Verb, vmLock } from "../verb.ts";

export const fsckSnapshot: Verb<"priv.fsck_snapshot"> = {
  gates: [],
  facts: [],
  byDesign: {
    rule: "the device is that VM's snapshot, made from its id; e2fsck runs as the VM's uid with a node of that one disk",
    stops: "`e2fsck -fy /dev/sda1`; a crafted file system taking root over through e2fsck",
  },
  lock: vmLock,
  run: async ({ vm }, context) => ({ repaired: await repairSnapshot(context, vm) }),
};
