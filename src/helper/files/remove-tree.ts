/**
 * Removes a tree that others filled and may still be filling: any names, any depth, any number. At most three
 * directories are open at a time. Names are read in bounded batches and removed in other threads, so that other callers
 * aren't blocked.
 */

import { BangerError, isErrno } from "../../shared/errors.ts";
import type { Descriptor, FileName } from "../sys/descriptors.ts";
import { unmount } from "../sys/mounts.ts";

/** How many names are removed at the same time. */
const BATCH = 128;
/**
 * A process inside may create files as fast as they are removed. After this many rounds the call fails; the next call
 * continues.
 */
const ROUNDS = 8;
const TIMEOUT_MS = 10 * 60_000;
/** A directory that was moved up, and whether only root could write its old parent. */
const MOVED = { fromRoots: "moved-from-roots-", fromOthers: "moved-from-others-" } as const;

interface Removal {
  readonly top: Descriptor;
  readonly mayEnter: (uid: number) => boolean;
  readonly deadline: number;
  /** The number of the last directory moved up. */
  moved: number;
}

/**
 * Empties `top`, which only root may write or enter. A directory below is entered only if its uid, read through the
 * descriptor then used, is allowed, or if only root can write its parent. The attack: the owner moves one of its own
 * directories, with root's files inside, to a writable place in a jail, so that root deletes them.
 *
 * A directory that isn't empty is moved up to `top` and emptied there, so no depth exhausts descriptors or the stack.
 * Mounts are detached, never entered. If the call stops midway, the next one continues.
 * @throws BangerError HELPER_REFUSED for a directory that may not be entered; IN_USE if files keep appearing in one
 */
export async function emptyTree(top: Descriptor, mayEnter: (uid: number) => boolean): Promise<void> {
  const removal: Removal = { top, mayEnter, deadline: Date.now() + TIMEOUT_MS, moved: 0 };
  await emptyDirectory(top, removal, async (name) => {
    using child = openIfThere(top, name);
    if (child === null) return;
    const { uid, mode } = child.stat();
    const isFromOthers = Buffer.from(name).toString("latin1").startsWith(MOVED.fromOthers);
    if (isFromOthers && !mayEnter(uid))
      throw new BangerError("HELPER_REFUSED", `${child.label} belongs to neither the VM nor the owner`);
    // A list's mask is stored in the group bits, so a directory that a list opens to the owner doesn't count.
    const kind = uid === 0 && (mode & 0o022) === 0 ? MOVED.fromRoots : MOVED.fromOthers;
    await emptyDirectory(child, removal, (inner) => moveUp(child, inner, kind, removal));
    await removeName(top, name);
  });
}

/**
 * Removes a directory's entries, again and again until nothing is left. `descend` handles directories that aren't
 * empty.
 */
async function emptyDirectory(
  directory: Descriptor,
  { top, deadline }: Removal,
  descend: (name: FileName) => void | Promise<void>,
): Promise<void> {
  const refill = (): BangerError => new BangerError("IN_USE", `${directory.label} is being filled while it is removed`);
  for (let isEmpty = false, round = 0; !isEmpty; round++) {
    if (directory !== top && round > ROUNDS) throw refill();
    isEmpty = true;
    directory.rewind();
    for (let names = directory.nextNames(); names.length > 0; names = directory.nextNames()) {
      isEmpty = false;
      for (let at = 0; at < names.length; at += BATCH) {
        const batch = names.slice(at, at + BATCH);
        const left = await Promise.all(batch.map(async (name) => ((await removeName(directory, name)) ? null : name)));
        for (const name of left) if (name !== null) await descend(name);
        if (Date.now() > deadline) throw refill();
      }
    }
  }
}

/** Removes the name. Returns false for a directory that isn't empty. */
async function removeName(directory: Descriptor, name: FileName): Promise<boolean> {
  try {
    await directory.remove(name);
    return true;
  } catch (thrown) {
    if (isErrno(thrown, "ENOENT")) return true;
    if (isErrno(thrown, "ENOTEMPTY") || isErrno(thrown, "EEXIST")) return false;
    // Replaced in between: the next round handles it.
    if (isErrno(thrown, "ENOTDIR")) return true;
    if (!isErrno(thrown, "EBUSY")) throw thrown;
  }
  using mounted = openIfThere(directory, name, "path");
  if (mounted !== null) detach(mounted);
  return true;
}

function detach(mounted: Descriptor): void {
  try {
    unmount(mounted);
  } catch (thrown) {
    // Replaced in between by something that is no mount.
    if (!isErrno(thrown, "EINVAL")) throw thrown;
  }
}

function moveUp(from: Descriptor, name: FileName, kind: string, removal: Removal): void {
  for (;;) {
    try {
      from.move(name, removal.top, `${kind}${++removal.moved}`);
      return;
    } catch (thrown) {
      if (isErrno(thrown, "ENOENT")) return;
      // Left by a call that stopped midway.
      if (!isErrno(thrown, "EEXIST")) throw thrown;
    }
  }
}

/**
 * Opens a directory on this device to be emptied, or any other kind of file to be inspected. Null if the name is gone
 * or now means something else.
 */
function openIfThere(parent: Descriptor, name: FileName, how: "directory" | "path" = "directory"): Descriptor | null {
  try {
    return how === "path" ? parent.openPath(name) : parent.openOnDevice(name);
  } catch (thrown) {
    // EXDEV: something was mounted there since. EAGAIN: names changed during the lookup.
    if (["ENOENT", "ENOTDIR", "ELOOP", "EXDEV", "EAGAIN"].some((errno) => isErrno(thrown, errno))) return null;
    throw thrown;
  }
}
