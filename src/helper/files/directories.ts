/** Opens and checks the directories below which everything is resolved. */

import { mkdirSync } from "node:fs";
import { basename, dirname } from "node:path";
import { isErrno } from "../../shared/errors.ts";
import type { HelperContext } from "../context.ts";
import { enforce, kernelsFileSystem, ownersDirectory, rootsDirectory } from "../gates.ts";
import { type Descriptor, O_PATH, openRoot } from "../sys/descriptors.ts";
import { readMount } from "../sys/mounts.ts";

/** Returns the descriptor if it passes the check; otherwise closes it and throws. */
function keepIf(descriptor: Descriptor, check: () => void): Descriptor {
  try {
    check();
    return descriptor;
  } catch (thrown) {
    descriptor[Symbol.dispose]();
    throw thrown;
  }
}

function openRoots(path: string): Descriptor {
  const directory = openRoot(path);
  return keepIf(directory, () => enforce(rootsDirectory, { directory: { label: path, ...directory.stat() } }));
}

const openBase = ({ paths }: HelperContext): Descriptor => openRoots(paths.baseDir);
export const openJails = ({ paths }: HelperContext): Descriptor => openRoots(paths.jailDir);
export const openCowFiles = ({ paths }: HelperContext): Descriptor => openRoots(paths.cowDir);
export const openSlots = ({ paths }: HelperContext): Descriptor => openRoots(paths.slotsDir);

/**
 * Opens a path below the owner's state directory, checking its kind. The owner may replace any part of it at any
 * moment, and may mount a FUSE file system on a directory, whose answers root would wait for. So each part is checked
 * before the next is looked up in it. A mount that root made there for more space is accepted.
 * @throws SystemCallError ENOENT, ELOOP for a link; BangerError HELPER_REFUSED
 */
export function openBelowState(context: HelperContext, path: string): Descriptor {
  let at = openState(context);
  for (const part of path.split("/")) {
    using parent = at;
    at = openPart(parent, part);
  }
  return at;
}

function openState(context: HelperContext): Descriptor {
  using base = openBase(context);
  const state = openPart(base, basename(context.paths.stateDir));
  return keepIf(state, () =>
    enforce(ownersDirectory, {
      directory: { label: state.label, ...state.stat() },
      ownerUid: context.install.owner.uid,
    }),
  );
}

function openPart(parent: Descriptor, name: string): Descriptor {
  try {
    return parent.open(name, O_PATH, { sameFileSystem: true });
  } catch (thrown) {
    if (!isErrno(thrown, "EXDEV")) throw thrown;
  }
  // Opening it this way asks the root of a mount nothing.
  const mounted = parent.openPath(name);
  return keepIf(mounted, () => enforce(kernelsFileSystem, { label: mounted.label, type: readMount(mounted).type }));
}

/** Makes root's own directories if `system install` hasn't. Root must already own their parent. */
export function ensureDirectories({ paths }: Pick<HelperContext, "paths">): void {
  const wanted: readonly (readonly [path: string, mode: number])[] = [
    [paths.baseDir, 0o711],
    [paths.jailDir, 0o711],
    [paths.cowDir, 0o711],
    [paths.slotsDir, 0o700],
  ];
  for (const [path, mode] of wanted) {
    using _parent = openRoots(dirname(path));
    try {
      mkdirSync(path, mode);
    } catch (thrown) {
      if (!isErrno(thrown, "EEXIST")) throw thrown;
    }
    using directory = openRoots(path);
    // The unit's umask of 077 removed the 011. Nothing has used it yet.
    directory.chmod(mode);
  }
}
