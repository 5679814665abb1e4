import { BangerError, isErrno } from "../../shared/errors.ts";
import type { HelperContext } from "../context.ts";
import { openBelowState } from "../files/directories.ts";
import { listCowFiles, listDm } from "../disk/dm.ts";
import { vmOfDm } from "../../shared/host-names.ts";
import { listJails } from "../jail/jail.ts";
import { listInterfaces } from "../network/interfaces.ts";
import { findProcessOf, scopePids } from "../jail/scope.ts";
import { findSlot, releaseSlot } from "../jail/slots.ts";
import { type Verb, vmLock } from "../verb.ts";

/** Names something that is left of a VM; null if nothing is. */
async function findRest(context: HelperContext, vm: string, uid: number): Promise<string | null> {
  if (scopePids(context, vm).length > 0) return "a process";
  const process = await findProcessOf(uid);
  if (process !== null) return `process ${process}, which has the uid`;
  if (listJails(context).includes(vm)) return "its jail";
  if (listCowFiles(context).some((file) => file.vm === vm)) return "its COW file";
  if (listDm().some((name) => vmOfDm(name) === vm)) return "its root snapshot";
  if (listInterfaces().some((link) => link.uid === uid)) return "a tap of its uid";
  return hasDirectory(context, vm) ? "its directory" : null;
}

function hasDirectory(context: HelperContext, vm: string): boolean {
  try {
    using _directory = openBelowState(context, `vms/${vm}`);
    return true;
  } catch (thrown) {
    if (isErrno(thrown, "ENOENT")) return false;
    // A link or any other file in its place counts as well.
    return true;
  }
}

export const releaseVm: Verb<"priv.release_vm"> = {
  gates: [],
  facts: [],
  byDesign: {
    rule: "only if no process, jail, COW file, snapshot, tap or directory of the VM is left",
    stops: "a new VM getting the uid of a VM whose files or processes still exist",
  },
  lock: vmLock,
  run: async ({ vm }, context) => {
    const slot = findSlot(context, vm);
    if (slot === null) return {};
    const rest = await findRest(context, vm, slot.uid);
    if (rest !== null) throw new BangerError("IN_USE", `${rest} of ${vm} still exists`);
    releaseSlot(context, slot);
    return {};
  },
};
