/**
 * A VM's jail: `<jailDir>/firecracker/<vm>/root`, as the jailer expects it. Of it the host has but `io`, where VMM and owner meet: the
 * VMM's root is a file system in memory that only the VMM's mount namespace has, with everything else mounted or made in it.
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

/** The jailer names this level after the program it runs. */
const PROGRAM = "firecracker";
const ROOT = "root";
const IO = JAIL.io.slice(1);
const ROOT_UID = 0;
const READ_WRITE_ENTER = 7;
const READ_WRITE = 6;
const ENTER = 1;

export const jailPath = ({ paths }: HelperContext, vm: string): string => join(paths.jailDir, PROGRAM, vm);
export const jailRoot = (context: HelperContext, vm: string): string => join(jailPath(context, vm), ROOT);

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
 * Makes the part of a jail that the host sees: `io`, open to the VM and, by default for all that is made in it, to the owner. The
 * directory stays root's, so neither can open it to others; its group says whose VM's it is. The logs are there from the start, the
 * VM's: Firecracker opens what it finds, and nobody can put another file there first. Given away last.
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
    // Another local user stays outside at every instant: neither list nor mode ever has anything for others.
    root.setAttribute(ACCESS_ACL, encodeAcl({ owner: READ_WRITE_ENTER, users: new Map([[owner, ENTER]]) }));
    return io;
  } catch (thrown) {
    io[Symbol.dispose]();
    throw thrown;
  }
}

/** What `/` will be to a VMM, while it is staged: disposing of it takes it out of the helper's sight. */
export interface StagedRoot extends Disposable {
  readonly root: Descriptor;
}

/** Directories and nodes of the jailer's, Firecracker's pid file, what is mounted in it. */
const INODES = 256;
/** Beside the program: what a VMM can take of memory by writing into its root. */
const ROOM_BYTES = 2 * 1024 * 1024;

/**
 * Makes what `/` will be to the VMM: a file system in memory that exists in this process's mount namespace alone, until the jailer takes
 * a copy of the mount along. No path of the host leads to a node, a program or a file in it, so none can be linked out of it or outlive
 * the VMM, and a VMM that renames what it finds there changes no other file. The host's `io` is mounted in it.
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
 * closed when this fails midway. "Not there" is fine.
 * @throws BangerError HELPER_REFUSED when a directory inside is neither the VM's nor the owner's, IN_USE when somebody goes on filling it
 */
export async function removeJail(context: HelperContext, vm: string): Promise<void> {
  using jails = openJails(context);
  using program = openIfThere(jails, PROGRAM);
  if (program === null) return;
  using jail = openIfThere(program, vm);
  if (jail === null) return;
  jail.chmod(0o700);
  // The host's mounts below, if any, are not this process's to undo.
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

/** Below the jails' directory: where tools work on one VM's disk, each VM's a directory of its own. */
const WORKSHOPS = "tools";

/** Its only entries are files: the tools make no directories there. "Not there" is fine. */
function clearWorkshop(context: HelperContext, vm: string): void {
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
export async function dropNodes(context: HelperContext, vm: string): Promise<void> {
  if (scopePids(context, vm).length > 0) throw new BangerError("IN_USE", `${vm} runs`);
  await removeJail(context, vm);
  clearWorkshop(context, vm);
}
