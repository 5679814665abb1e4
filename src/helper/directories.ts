/** The directories everything is resolved below, opened and checked. */

import { mkdirSync } from "node:fs";
import { dirname } from "node:path";
import { isErrno } from "../shared/errors.ts";
import type { HelperContext } from "./context.ts";
import { enforce, ownersDirectory, rootsDirectory } from "./gates.ts";
import { type Descriptor, openRoot } from "./sys/descriptors.ts";

function openRoots(path: string): Descriptor {
  const directory = openRoot(path);
  try {
    enforce(rootsDirectory, { directory: { label: path, ...directory.stat() } });
    return directory;
  } catch (thrown) {
    directory[Symbol.dispose]();
    throw thrown;
  }
}

export const openBase = ({ paths }: HelperContext): Descriptor => openRoots(paths.baseDir);
export const openJails = ({ paths }: HelperContext): Descriptor => openRoots(paths.jailDir);
export const openCowFiles = ({ paths }: HelperContext): Descriptor => openRoots(paths.cowDir);
export const openSlots = ({ paths }: HelperContext): Descriptor => openRoots(paths.slotsDir);

/** The owner's tree. Whatever is opened below is the owner's to exchange at any moment. */
export function openState({ paths, install }: HelperContext): Descriptor {
  const directory = openRoot(paths.stateDir);
  try {
    enforce(ownersDirectory, {
      directory: { label: paths.stateDir, ...directory.stat() },
      ownerUid: install.owner.uid,
    });
    return directory;
  } catch (thrown) {
    directory[Symbol.dispose]();
    throw thrown;
  }
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
