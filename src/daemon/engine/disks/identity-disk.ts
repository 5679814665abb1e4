/**
 * The identity disk: what a guest is known by, and the files that a new VM begins with. A tar archive on a read-only drive, made anew
 * at each start: neither side opens a file system that the other may have written.
 */

import { rename, rm, writeFile } from "node:fs/promises";
import { joinTars, parentsOf, type TarEntry, writeTar } from "../../image/write-tar.ts";
import type { DiskFile } from "./seed.ts";

/** Name of the first entry, by which the guest knows the disk (`guest/identity.sh`). */
const MARK = "banger-identity";
/** There when the archive holds files for /root. */
const HAS_FILES = "has-files";
/** There when the work disk is larger than at the last boot. */
const GROWN = "grown";
const IDENTITY = "identity";
const ROOT = "root";

export interface GuestIdentity {
  /** The secret half of the VM's ssh host key. */
  readonly hostKey: string;
  readonly hostKeyPublic: string;
  readonly authorizedKeys: string;
  /** `[user]` of the host's git; null when there is none. */
  readonly gitConfig: string | null;
}

/** The files as an archive that {@link identityArchive} takes in. Pure. */
export function filesArchive(files: readonly DiskFile[]): Uint8Array {
  // The last one named counts, and its directories are root's alone.
  const last = new Map(files.map((file) => [`${ROOT}${file.path}`, file]));
  const paths = [...last.keys()];
  return writeTar([
    ...parentsOf(paths).map((path): TarEntry => ({ kind: "directory", path, mode: 0o700 })),
    ...[...last].map(([path, { mode, contents }]): TarEntry => ({ kind: "file", path, mode, contents })),
  ]);
}

export interface BootNews {
  /** {@link filesArchive}'s, null for a VM that has its files. */
  readonly files: Uint8Array | null;
  /** Whether the work disk grew since the last boot. */
  readonly hasGrown: boolean;
}

/** What the disk holds: whole sectors. Pure. */
export function identityArchive(identity: GuestIdentity, { files, hasGrown }: BootNews): Uint8Array {
  const file = (path: string, mode: number, contents: string): TarEntry => ({ kind: "file", path, mode, contents });
  const own = writeTar([
    file(MARK, 0o644, ""),
    { kind: "directory", path: IDENTITY, mode: 0o700 },
    file(`${IDENTITY}/ssh_host_ed25519_key`, 0o600, identity.hostKey),
    file(`${IDENTITY}/ssh_host_ed25519_key.pub`, 0o644, identity.hostKeyPublic),
    file(`${IDENTITY}/authorized_keys`, 0o600, identity.authorizedKeys),
    ...(identity.gitConfig === null ? [] : [file("gitconfig", 0o644, identity.gitConfig)]),
    ...(hasGrown ? [file(GROWN, 0o644, "")] : []),
    ...(files === null ? [] : [file(HAS_FILES, 0o644, "")]),
  ]);
  return files === null ? own : joinTars([own, files]);
}

/** Puts a whole new file in place: an older one's other names (a jail's) keep the older one. */
export async function writeIdentityDisk(path: string, archive: Uint8Array): Promise<void> {
  const staging = `${path}.new`;
  await rm(staging, { force: true });
  await writeFile(staging, archive, { mode: 0o600, flag: "wx" });
  await rename(staging, path);
}
