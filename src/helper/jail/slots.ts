/**
 * Records which VM has which uid of the reserved range: one symbolic link per uid, `<uid> → <vm>`, in a directory that
 * only root can enter. A link is created together with its target, so a crash leaves no half-written record. An
 * attribute of the directory holds the last uid given out. Each new VM gets a later one, so that a uid is reused as
 * late as possible.
 */

import { readlinkSync } from "node:fs";
import { BangerError, isErrno } from "../../shared/errors.ts";
import type { InstallConfig } from "../../shared/install-config.ts";
import type { HelperContext } from "../context.ts";
import { openSlots } from "../files/directories.ts";
import type { Descriptor } from "../sys/descriptors.ts";
import { SystemCallError } from "../sys/libc.ts";

export interface Slot {
  readonly vm: string;
  /** The VM's uid and gid. */
  readonly uid: number;
}

export function isReservedUid({ vm_ids }: InstallConfig, uid: number): boolean {
  return uid >= vm_ids.first && uid < vm_ids.first + vm_ids.count;
}

/** Chooses the next free uid of the range after the last one given out; null if all are taken. Pure. */
export function chooseUid({ vm_ids }: InstallConfig, taken: ReadonlySet<number>, last: number | null): number | null {
  const { first, count } = vm_ids;
  const start = last !== null && last >= first && last < first + count ? last - first + 1 : 0;
  for (let index = 0; index < count; index++) {
    const uid = first + ((start + index) % count);
    if (!taken.has(uid)) return uid;
  }
  return null;
}

/** An attribute of the directory: it is replaced atomically, and earlier versions can't take it for a uid's link. */
const LAST = "trusted.banger.last_uid";

function readLast(slots: Descriptor): number | null {
  const value = slots.attribute(LAST);
  return value === null ? null : Number(new TextDecoder().decode(value));
}

export function listSlots(context: HelperContext): readonly Slot[] {
  using slots = openSlots(context);
  return slots.names().map((name) => ({ uid: Number(name), vm: readlinkSync(`${slots.procPath}/${name}`) }));
}

export function findSlot(context: HelperContext, vm: string): Slot | null {
  return listSlots(context).find((slot) => slot.vm === vm) ?? null;
}

/**
 * Returns the VM's uid, reserving one if it has none. The VM keeps it until {@link releaseSlot}: if another VM got the
 * uid while files or processes of the first remain, it could read them.
 */
export function takeSlot(context: HelperContext, vm: string): Slot {
  const slots = listSlots(context);
  const own = slots.find((slot) => slot.vm === vm);
  if (own !== undefined) {
    if (isReservedUid(context.install, own.uid)) return own;
    throw new BangerError("FAILED", `uid ${own.uid} of ${vm} is no longer in the range of install.toml`);
  }
  using directory = openSlots(context);
  const taken = new Set(slots.map(({ uid }) => uid));
  for (;;) {
    const uid = chooseUid(context.install, taken, readLast(directory));
    if (uid === null) {
      throw new BangerError("FAILED", `all ${context.install.vm_ids.count} user ids reserved for VMs are taken`, {
        hint: "raise vm_ids.count in /etc/banger/install.toml",
      });
    }
    directory.setAttribute(LAST, new TextEncoder().encode(String(uid)));
    try {
      directory.makeLink(String(uid), vm);
      return { vm, uid };
    } catch (thrown) {
      if (!(thrown instanceof SystemCallError) || !isErrno(thrown, "EEXIST")) throw thrown;
      taken.add(uid);
    }
  }
}

export function releaseSlot(context: HelperContext, { uid }: Slot): void {
  using directory = openSlots(context);
  directory.unlink(String(uid));
}
