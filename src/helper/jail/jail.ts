/**
 * A VM's jail: `<jailDir>/firecracker/<vm>/root`, the layout the jailer expects. The host sees only its `io` directory,
 * which the VMM and the owner share. The VMM's root is an in-memory file system that exists only in the VMM's mount
 * namespace.
 */

import { readFileSync } from "node:fs";
import { join } from "node:path";
import { BangerError, isErrno } from "../../shared/errors.ts";
import { JAIL } from "../../shared/contract/helper-api.ts";
import { ACCESS_ACL, DEFAULT_ACL, encodeAcl } from "./acl.ts";
import type { HelperContext } from "../context.ts";
import { openJails } from "../files/directories.ts";
import { enforce, jailsMount } from "../gates.ts";
import { emptyTree } from "../files/remove-tree.ts";
import { scopePids } from "./scope.ts";
import { isReservedUid } from "./slots.ts";
import type { Descriptor } from "../sys/descriptors.ts";
import { bindMount, keepMountsToOurselves, mountMemory, readMount, unmount } from "../sys/mounts.ts";

/** The jailer names this directory after the program it runs. */
const PROGRAM = "firecracker";
const ROOT = "root";
const IO = JAIL.io.slice(1);
const ROOT_UID = 0;
const READ_WRITE_ENTER = 7;
const READ_WRITE = 6;
const ENTER = 1;

export const jailPath = ({ paths }: HelperContext, vm: string): string => join(paths.jailDir, PROGRAM, vm);
export const jailRoot = (context: HelperContext, vm: string): string => join(jailPath(context, vm), ROOT);

/** Lists the ids of VMs that have a jail. */
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
 * Makes the part of a jail that the host sees: `io`, open to the VM and the owner, as are all files made in it. Root
 * owns the directory, so neither can open it to others; its group is the VM's. The log files are made first, as the
 * VM's, and the directory is opened last, so nobody can put another file in their place.
 */
export function makeJail(context: HelperContext, vm: string, uid: number): Descriptor {
  using jails = openJails(context);
  enforce(jailsMount, { label: jails.label, options: readMount(jails).options });
  makeIfMissing(jails, PROGRAM);
  using program = jails.openDirectory(PROGRAM);
  program.makeDirectory(vm, 0o711);
  using jail = program.openDirectory(vm);
  jail.chmod(0o711);
  jail.makeDirectory(ROOT, 0o700);
  using root = jail.openDirectory(ROOT);
  root.makeDirectory(IO, 0o700);
  const io = root.openDirectory(IO);
  try {
    const owner = context.install.owner.uid;
    for (const name of [JAIL.serialLog, JAIL.vmmLog, JAIL.metrics]) {
      using log = io.makeFile(name.slice(JAIL.io.length + 1));
      log.setAttribute(ACCESS_ACL, encodeAcl({ owner: READ_WRITE, users: new Map([[owner, READ_WRITE]]) }));
      log.chown(uid, uid);
    }
    const shared = encodeAcl({
      owner: READ_WRITE_ENTER,
      users: new Map([
        [owner, READ_WRITE_ENTER],
        [uid, READ_WRITE_ENTER],
      ]),
    });
    io.chown(ROOT_UID, uid);
    io.setAttribute(DEFAULT_ACL, shared);
    io.setAttribute(ACCESS_ACL, shared);
    // Other local users never get in, not even for an instant: neither the list nor the mode ever grants them anything.
    root.setAttribute(ACCESS_ACL, encodeAcl({ owner: READ_WRITE_ENTER, users: new Map([[owner, ENTER]]) }));
    return io;
  } catch (thrown) {
    io[Symbol.dispose]();
    throw thrown;
  }
}

/** A VMM's future `/` while it is staged. Disposing of it unmounts it from the helper's namespace. */
export interface StagedRoot extends Disposable {
  readonly root: Descriptor;
}

/** Enough for the jailer's directories and nodes, Firecracker's pid file and the mount points. */
const INODES = 256;
/** In addition to the program's size: limits the memory a VMM can use by writing to its root. */
const ROOM_BYTES = 2 * 1024 * 1024;

/**
 * Makes the VMM's future `/`: an in-memory file system in this process's mount namespace, which the jailer then copies.
 * No path on the host leads to a node, program or file in it, so none can be linked elsewhere or outlive the VMM. A VMM
 * that renames entries changes no other file. The host's `io` is mounted in it.
 */
export function mountRoot(context: HelperContext, vm: string, io: Descriptor, programBytes: number): StagedRoot {
  keepMountsToOurselves();
  using jails = openJails(context);
  using jail = jails.openDirectory(`${PROGRAM}/${vm}`);
  {
    using covered = jail.openDirectory(ROOT);
    mountMemory(covered, { bytes: programBytes + ROOM_BYTES, inodes: INODES });
  }
  const root = jail.openDirectory(ROOT);
  const staged: StagedRoot = {
    root,
    [Symbol.dispose]: () => {
      using mounted = root;
      unmount(mounted);
    },
  };
  try {
    root.makeDirectory(IO, 0o700);
    bindMount(io, root, IO, "write");
    return staged;
  } catch (thrown) {
    staged[Symbol.dispose]();
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

/** Lists the mount points in the text of /proc/self/mountinfo, deepest first. Pure. Source: proc(5). */
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

/** Lists the mount points at or below any jail. */
export function listJailMounts({ paths }: HelperContext): readonly string[] {
  return readMounts().filter((mount) => mount.startsWith(`${paths.jailDir}/`));
}

/**
 * Removes the jail of a stopped VM. The jail is closed first, so that nobody else can enter it, and stays closed if
 * removal fails midway. A missing jail is not an error.
 * @throws BangerError HELPER_REFUSED if a directory inside belongs to neither the VM nor the owner; IN_USE if files
 * keep appearing in it
 */
export async function removeJail(context: HelperContext, vm: string): Promise<void> {
  using jails = openJails(context);
  using program = openIfThere(jails, PROGRAM);
  if (program === null) return;
  using jail = openIfThere(program, vm);
  if (jail === null) return;
  jail.chmod(0o700);
  // Mounts that the host made below must stay on the host.
  keepMountsToOurselves();
  await emptyTree(jail, (uid) => uid === context.install.owner.uid || isReservedUid(context.install, uid));
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

/**
 * Removes every node of the VM's device before the device is removed. The attack: the kernel reuses a removed device's
 * number, perhaps for one of the host's own disks, and a node left in a jail would give the VM access to it.
 * @throws BangerError IN_USE while any process of the VM runs
 */
export async function dropNodes(context: HelperContext, vm: string): Promise<void> {
  if (scopePids(context, vm).length > 0) throw new BangerError("IN_USE", `${vm} is running`);
  await removeJail(context, vm);
}
