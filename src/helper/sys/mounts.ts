/**
 * Mounts by descriptor, because a name may lead elsewhere by the time it is used. Source: mount(2), umount2(2), proc(5)
 * "/proc/pid/fd".
 */

import { readFileSync } from "node:fs";
import type { Descriptor } from "./descriptors.ts";
import { check, cString, errno, libc, ptr } from "./libc.ts";

const MNT_DETACH = 2;
const MS_RDONLY = 1;
const MS_NOSUID = 2;
const MS_NODEV = 4;
const MS_NOEXEC = 8;
const MS_REMOUNT = 32;
const MS_BIND = 4096;
const MS_REC = 0x4000;
const MS_SLAVE = 0x8_0000;

/** What the kernel reports about a mount. */
export interface MountFacts {
  /** `ext4`, `tmpfs`, `fuse.sshfs`, … */
  readonly type: string;
  /** Options of the mount, not of its file system: `rw`, `nosuid`, … */
  readonly options: readonly string[];
}

/**
 * Keeps this process's mounts and unmounts in its own namespace from now on; the host's still arrive. systemd makes a
 * service's mounts shared, so without this a mount would also appear in each peer. Repeating it changes nothing.
 */
export function keepMountsToOurselves(): void {
  const root = cString("/");
  check("mount", "/, MS_SLAVE", libc.mount(null, ptr(root), null, BigInt(MS_SLAVE | MS_REC), null), errno());
}

/**
 * Mounts a new, empty in-memory file system with a root of mode 0700 that the caller owns. Reopen `target` by name to
 * reach it.
 */
export function mountMemory(target: Descriptor, limits: { readonly bytes: number; readonly inodes: number }): void {
  const type = cString("tmpfs");
  const path = cString(target.procPath);
  const options = cString(`mode=0700,size=${limits.bytes},nr_inodes=${limits.inodes}`);
  check(
    "mount",
    `tmpfs, ${target.label}`,
    libc.mount(ptr(type), ptr(path), ptr(type), BigInt(MS_NOSUID), ptr(options)),
    errno(),
  );
}

/**
 * Bind-mounts the file or directory onto the name in `directory`, which must exist and be of the same kind. The mount
 * allows no set-uid files, nodes or programs.
 */
export function bindMount(source: Descriptor, directory: Descriptor, name: string, access: "read" | "write"): void {
  using target = directory.openPath(name);
  const [from, to] = [cString(source.procPath), cString(target.procPath)];
  check(
    "mount",
    `${source.label}, ${target.label}`,
    libc.mount(ptr(from), ptr(to), null, BigInt(MS_BIND), null),
    errno(),
  );
  // Flags can be set only once the bind mount exists. Reopening the name leads into it.
  using mounted = directory.openPath(name);
  const flags = MS_REMOUNT | MS_BIND | MS_NOSUID | MS_NODEV | MS_NOEXEC | (access === "read" ? MS_RDONLY : 0);
  const path = cString(mounted.procPath);
  check("mount", `${mounted.label}, ${access}`, libc.mount(null, ptr(path), null, BigInt(flags), null), errno());
}

/**
 * Detaches the mount whose root the descriptor is, with all mounts below it. By name, `UMOUNT_NOFOLLOW` would protect
 * only the last part: a link earlier in the path could still lead to one of the host's mounts.
 * @throws SystemCallError EINVAL if it is not the root of a mount
 */
export function unmount(mounted: Descriptor): void {
  const target = cString(mounted.procPath);
  check("umount2", mounted.label, libc.umount2(ptr(target), MNT_DETACH), errno());
}

/** Finds the mount through which the file was reached. */
export function readMount(file: Descriptor): MountFacts {
  return parseMount(readFileSync("/proc/self/mountinfo", "utf8"), file.mountId());
}

/** Finds one mount in the text of /proc/pid/mountinfo. Pure. Source: proc(5). @throws Error if it isn't listed */
export function parseMount(mountInfo: string, id: string): MountFacts {
  for (const line of mountInfo.split("\n")) {
    const [mount = "", superblock = ""] = line.split(" - ");
    const fields = mount.split(" ");
    if (fields[0] === id) return { type: superblock.split(" ")[0] ?? "", options: (fields[5] ?? "").split(",") };
  }
  throw new Error(`no mount ${id}`);
}
