/** The directories everything is resolved below, opened and checked. */

import { mkdirSync } from "node:fs";
import { basename, dirname } from "node:path";
import { isErrno } from "../../shared/errors.ts";
import type { HelperContext } from "../context.ts";
import { enforce, kernelsFileSystem, ownersDirectory, rootsDirectory } from "../gates.ts";
import { type Descriptor, O_PATH, openRoot } from "../sys/descriptors.ts";
import { readMount } from "../sys/mounts.ts";

/** The descriptor, or, when it isn't what it should be, its end. */
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
 * Opens, as what it is, a path below the owner's state directory. The owner may exchange every part of it at any moment, and may mount a
 * file system of their own on a directory of theirs (fusermount), whose answers root would wait for: each part is looked at before the
 * next is looked up in it. What root mounted there for more room is as good as a directory.
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
  // Opened so, the root of a mount is not asked anything.
  const mounted = parent.openPath(name);
  return keepIf(mounted, () => enforce(kernelsFileSystem, { label: mounted.label, type: readMount(mounted).type }));
}

/** Makes root's own directories where `system install` hasn't. Their parent must be root's already. */
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
    // The unit's umask of 077 took the 011 away; nobody has looked yet.
    directory.chmod(mode);
  }
}
