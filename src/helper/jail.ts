/**
 * A VM's jail: `<jailDir>/firecracker/<vm>/root`, as the jailer expects it. The parents are root's; `root` and all in
 * it is the VM's uid's. Nothing is mounted: block devices are nodes, files are hard links, libraries are copies.
 */

import { copyFileSync, readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { BangerError, isErrno } from "../shared/errors.ts";
import { ACCESS_ACL, DEFAULT_ACL, encodeAcl } from "./acl.ts";
import type { HelperContext } from "./context.ts";
import { openJails } from "./directories.ts";
import { enforce, nothingMounted } from "./gates.ts";
import { scopePids } from "./scope.ts";
import { isReservedUid } from "./slots.ts";
import type { Descriptor } from "./sys/descriptors.ts";
import { unmount } from "./sys/mounts.ts";

/** The jailer names this level after the program it runs. */
const PROGRAM = "firecracker";
const READ_WRITE_ENTER = 7;
const ENTER = 1;

export const jailPath = ({ paths }: HelperContext, vm: string): string => join(paths.jailDir, PROGRAM, vm);
export const jailRoot = (context: HelperContext, vm: string): string => join(jailPath(context, vm), "root");

/** The jail's root directory of a VM; null when it has no jail. */
export function openJailRoot(context: HelperContext, vm: string): Descriptor | null {
  using jails = openJails(context);
  try {
    return jails.openDirectory(`${PROGRAM}/${vm}/root`);
  } catch (thrown) {
    if (isErrno(thrown, "ENOENT")) return null;
    throw thrown;
  }
}

/** VM ids that have a jail. */
export function listJails(context: HelperContext): readonly string[] {
  using jails = openJails(context);
  try {
    using program = jails.openDirectory(PROGRAM);
    return program.names();
  } catch (thrown) {
    if (isErrno(thrown, "ENOENT")) return [];
    throw thrown;
  }
}

/**
 * Makes the empty jail. `root` is 0700 and the VM's; its list has the owner enter, which the mode masks until
 * {@link admitOwner}. `io` is open to the VM and, by default for all that is made in it, to the owner.
 */
export function makeJail(context: HelperContext, vm: string, uid: number): Descriptor {
  using jails = openJails(context);
  makeIfMissing(jails, PROGRAM);
  using program = jails.openDirectory(PROGRAM);
  program.makeDirectory(vm, 0o711);
  using jail = program.openDirectory(vm);
  jail.chmod(0o711);
  jail.makeDirectory("root", 0o700);
  const root = jail.openDirectory("root");
  try {
    const owner = context.install.owner.uid;
    const shared = encodeAcl({
      owner: READ_WRITE_ENTER,
      users: new Map([
        [owner, READ_WRITE_ENTER],
        [uid, READ_WRITE_ENTER],
      ]),
    });
    root.setAttribute(ACCESS_ACL, encodeAcl({ owner: READ_WRITE_ENTER, users: new Map([[owner, ENTER]]) }));
    root.chmod(0o700);
    root.makeDirectory("io", 0o700);
    using io = root.openDirectory("io");
    io.chown(uid, uid);
    io.setAttribute(DEFAULT_ACL, shared);
    io.setAttribute(ACCESS_ACL, shared);
    root.chown(uid, uid);
    return root;
  } catch (thrown) {
    root[Symbol.dispose]();
    throw thrown;
  }
}

function makeIfMissing(parent: Descriptor, name: string): void {
  try {
    parent.makeDirectory(name, 0o711);
  } catch (thrown) {
    if (isErrno(thrown, "EEXIST")) return;
    throw thrown;
  }
  using directory = parent.openDirectory(name);
  directory.chmod(0o711);
}

/**
 * Lets the owner enter. The mode's group bits are the list's mask: until now 0, because the jailer sets 0700. Another
 * local user stays outside at every instant: neither the list nor the mode ever has anything for others.
 */
export function admitOwner(root: Descriptor): void {
  root.chmod(0o710);
}

/** Copies root's libraries to the same paths inside the jail, readable by the VM. */
export function copyLibraries(root: Descriptor, files: readonly string[], uid: number): void {
  for (const file of files) {
    let directory = root;
    const opened: Descriptor[] = [];
    try {
      for (const part of dirname(file).split("/").filter(Boolean)) {
        try {
          directory.makeDirectory(part, 0o700);
        } catch (thrown) {
          if (!isErrno(thrown, "EEXIST")) throw thrown;
        }
        directory = directory.openDirectory(part);
        opened.push(directory);
        directory.chown(uid, uid);
      }
      const name = file.slice(file.lastIndexOf("/") + 1);
      copyFileSync(file, `${directory.procPath}/${name}`);
      using copy = directory.openPath(name);
      copy.chmod(0o500);
      copy.chown(uid, uid);
    } finally {
      for (const descriptor of opened.toReversed()) descriptor[Symbol.dispose]();
    }
  }
}

/** Mount points of this mount namespace, deepest first. Pure but for where the text comes from. Source: proc(5). */
export function parseMounts(mountInfo: string): readonly string[] {
  return mountInfo
    .split("\n")
    .flatMap((line) => line.split(" ")[4] ?? [])
    .filter((path) => path !== "")
    .map((path) =>
      path.replaceAll(/\\([0-7]{3})/g, (_, digits: string) => String.fromCharCode(Number.parseInt(digits, 8))),
    )
    .toReversed();
}

const readMounts = (): readonly string[] => parseMounts(readFileSync("/proc/self/mountinfo", "utf8"));

/** Mount points at or below any jail. */
export function listJailMounts({ paths }: HelperContext): readonly string[] {
  return readMounts().filter((mount) => mount.startsWith(`${paths.jailDir}/`));
}

/**
 * Removes the jail of a VM that doesn't run. It is closed first, so that nobody finds the way in any more, and stays
 * closed when this fails midway. What is mounted below is detached then, the last mounted first; then names are
 * removed one by one through descriptors, never across a device or a link: who was inside already can still exchange
 * them. "Not there" is fine.
 * @throws BangerError HELPER_REFUSED when something stays mounted, or a directory inside is neither the VM's nor the owner's.
 */
export function removeJail(context: HelperContext, vm: string): void {
  using jails = openJails(context);
  using program = openIfThere(jails, PROGRAM);
  if (program === null) return;
  using jail = openIfThere(program, vm);
  if (jail === null) return;
  jail.chmod(0o700);
  const path = jailPath(context, vm);
  for (const mount of readMounts()) {
    if (!mount.startsWith(`${path}/`)) continue;
    // Names on the way may be the VM's or the owner's to exchange for links that lead to a mount of the host's.
    using mounted = jail.openPath(mount.slice(path.length + 1));
    unmount(mounted);
  }
  enforce(nothingMounted, { jail: path, mounts: readMounts() });
  const mayEnter = (uid: number): boolean => uid === context.install.owner.uid || isReservedUid(context.install, uid);
  emptyDirectory(jail, mayEnter, 0);
  program.removeDirectory(vm);
}

function openIfThere(parent: Descriptor, name: string): Descriptor | null {
  try {
    return parent.openDirectory(name);
  } catch (thrown) {
    if (isErrno(thrown, "ENOENT")) return null;
    throw thrown;
  }
}

/** Deeper trees than any jail has; stops a VMM from exhausting descriptors. */
const DEPTH_LIMIT = 64;

/**
 * A directory is entered only when its uid, read through the descriptor that is then used, may be: the owner can move
 * a directory of its own, root's files inside, to where the owner may write in a jail, to have root delete them.
 */
function emptyDirectory(directory: Descriptor, mayEnter: (uid: number) => boolean, depth: number): void {
  if (depth > DEPTH_LIMIT) throw new BangerError("HELPER_REFUSED", `${directory.label} is nested too deep`);
  const { uid, mode } = directory.stat();
  // A list's mask stands in the group bits, so a directory that a list opens to the owner doesn't count.
  const isRoots = uid === 0 && (mode & 0o022) === 0;
  for (const name of directory.names()) {
    try {
      directory.unlink(name);
      continue;
    } catch (thrown) {
      if (isErrno(thrown, "ENOENT")) continue;
      if (!isErrno(thrown, "EISDIR") && !isErrno(thrown, "EPERM")) throw thrown;
    }
    try {
      directory.removeDirectory(name);
      continue;
    } catch (thrown) {
      if (isErrno(thrown, "ENOENT")) continue;
      if (!isErrno(thrown, "ENOTEMPTY")) throw thrown;
    }
    using child = directory.openOnDevice(name);
    // What stands in a directory that only root writes was put there by this program.
    if (!isRoots && !mayEnter(child.stat().uid)) {
      throw new BangerError("HELPER_REFUSED", `${child.label} belongs to neither the VM nor the owner`);
    }
    emptyDirectory(child, mayEnter, depth + 1);
    directory.removeDirectory(name);
  }
}

/** Below the jails' directory: where tools work on one VM's disk, each VM's a directory of its own. */
export const WORKSHOPS = "tools";

/** Its only entries are files: the tools make no directories there. "Not there" is fine. */
export function clearWorkshop(context: HelperContext, vm: string): void {
  using jails = openJails(context);
  using workshops = openIfThere(jails, WORKSHOPS);
  if (workshops === null) return;
  {
    using workshop = openIfThere(workshops, vm);
    if (workshop === null) return;
    for (const name of workshop.names()) workshop.unlink(name);
  }
  workshops.removeDirectory(vm);
}

/**
 * Removes every node of the VM's device before the device goes. The attack: the kernel gives the number of a removed device to the
 * next one, which may be the host's own, and a node that stayed behind in a jail would open it to the VM.
 * @throws BangerError IN_USE while anything of the VM runs.
 */
export function dropNodes(context: HelperContext, vm: string): void {
  if (scopePids(context, vm).length > 0) throw new BangerError("IN_USE", `${vm} runs`);
  removeJail(context, vm);
  clearWorkshop(context, vm);
}
