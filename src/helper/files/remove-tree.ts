/**
 * Removes a tree that others filled, and may still be filling: any names, any depth, any number. At most three directories are open
 * at a time, names are read in bounded batches, and each is removed in another thread, so that other callers are answered meanwhile.
 */

import { BangerError, isErrno } from "../../shared/errors.ts";
import type { Descriptor, FileName } from "../sys/descriptors.ts";
import { unmount } from "../sys/mounts.ts";

/** So many names are removed at the same time. */
const BATCH = 128;
/** Who is inside may be making files as fast as they are removed: then the next call goes on. */
const ROUNDS = 8;
const TIMEOUT_MS = 10 * 60_000;
/** A directory that was moved up, and whether only root could write the one it was in. */
const MOVED = { fromRoots: "moved-from-roots-", fromOthers: "moved-from-others-" } as const;

interface Removal {
  readonly top: Descriptor;
  readonly mayEnter: (uid: number) => boolean;
  readonly deadline: number;
  /** Of the last directory moved up. */
  moved: number;
}

/**
 * Empties `top`, which only root may write or enter. A directory below is entered only when its uid, read through the descriptor that
 * is then used, may be, or when it stands in a directory that only root writes. The attack: the owner moves a directory of its own,
 * root's files inside, to where the owner may write in a jail, to have root delete them.
 *
 * A directory that isn't empty is moved up to `top` and emptied there: no depth exhausts descriptors or the stack. What is mounted
 * on a name is detached, never entered. What stops midway goes on with the next call.
 * @throws BangerError HELPER_REFUSED for a directory that may not be entered, IN_USE when somebody goes on filling one
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
    // A list's mask stands in the group bits, so a directory that a list opens to the owner doesn't count.
    const kind = uid === 0 && (mode & 0o022) === 0 ? MOVED.fromRoots : MOVED.fromOthers;
    await emptyDirectory(child, removal, (inner) => moveUp(child, inner, kind, removal));
    await removeName(top, name);
  });
}

/** Removes what is in a directory; what is a directory and not empty is left to `descend`. Again until nothing is left. */
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

/** False for a directory that isn't empty. */
async function removeName(directory: Descriptor, name: FileName): Promise<boolean> {
  try {
    await directory.remove(name);
    return true;
  } catch (thrown) {
    if (isErrno(thrown, "ENOENT")) return true;
    if (isErrno(thrown, "ENOTEMPTY") || isErrno(thrown, "EEXIST")) return false;
    // Exchanged in between: the next round meets it again.
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
    // Exchanged in between for what is no mount.
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
      // Of a call that stopped midway.
      if (!isErrno(thrown, "EEXIST")) throw thrown;
    }
  }
}

/** A directory to be emptied, on this device; or anything, as what it is. Null for a name that is gone or means something else by now. */
function openIfThere(parent: Descriptor, name: FileName, how: "directory" | "path" = "directory"): Descriptor | null {
  try {
    return how === "path" ? parent.openPath(name) : parent.openOnDevice(name);
  } catch (thrown) {
    // EXDEV: mounted on since; EAGAIN: names changed while it was looked up.
    if (["ENOENT", "ENOTDIR", "ELOOP", "EXDEV", "EAGAIN"].some((errno) => isErrno(thrown, errno))) return null;
    throw thrown;
  }
}
