/** Unmounting by descriptor. Source: umount2(2), proc(5) "/proc/pid/fd". */

import { check, cString, errno, libc, ptr } from "./libc.ts";
import type { Descriptor } from "./descriptors.ts";

const MNT_DETACH = 2;

/**
 * Detaches the mount that the descriptor (of its root) is in. By name, `UMOUNT_NOFOLLOW` would only guard the last part:
 * a link on the way could still lead to a mount of the host's.
 */
export function unmount(mounted: Descriptor): void {
  const target = cString(mounted.procPath);
  check("umount2", mounted.label, libc.umount2(ptr(target), MNT_DETACH), errno());
}
