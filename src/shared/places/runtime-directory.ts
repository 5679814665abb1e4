/**
 * Where the sockets of rootless mode are. A state directory has one daemon, whose runtime directory it names by its link
 * `runtime`; the runtime directory names its state directory by its link `state`. So whoever has the state directory finds
 * the daemon, whatever the environment, and nobody finds another state's.
 */

import { lstatSync, readlinkSync, statSync } from "node:fs";
import { rename, rm, symlink } from "node:fs/promises";
import { join } from "node:path";

/** Longest path of a unix socket (unix(7): 108 with the final zero). */
export const SOCKET_PATH_LIMIT_BYTES = 107;

/** The longest name below a runtime directory: ssh binds a control socket under its name with 17 characters more. */
const LONGEST_NAME = `/vms/${"0".repeat(12)}/ssh.sock.${"0".repeat(16)}`;

type Env = Readonly<Record<string, string | undefined>>;

/**
 * The runtime directory that a state directory gets when it has none: below XDG_RUNTIME_DIR, or below /tmp when that is
 * not set or so long that sockets would not fit. Pure.
 */
export function chooseRuntimeDir(env: Env, uid: number, stateDir: string): string {
  const key = new Bun.CryptoHasher("sha256").update(stateDir).digest("hex").slice(0, 12);
  const base = env["XDG_RUNTIME_DIR"];
  const wanted = base?.startsWith("/") === true ? join(base, `banger-${key}`) : null;
  const fits = wanted !== null && Buffer.byteLength(wanted + LONGEST_NAME) <= SOCKET_PATH_LIMIT_BYTES;
  return fits ? wanted : `/tmp/banger-runtime-${uid}-${key}`;
}

/**
 * The runtime directory that a state directory names; null when it names none, one that is gone, or another's: a copied
 * state directory names that of the original.
 */
export function findRuntimeDir(stateDir: string): string | null {
  try {
    const runtimeDir = readlinkSync(join(stateDir, "runtime"));
    const info = lstatSync(runtimeDir);
    // In /tmp another user may take the name of a directory that is gone.
    if (!runtimeDir.startsWith("/") || !info.isDirectory() || info.uid !== process.getuid?.()) return null;
    const [named, own] = [statSync(join(runtimeDir, "state")), statSync(stateDir)];
    return named.dev === own.dev && named.ino === own.ino ? runtimeDir : null;
  } catch {
    return null;
  }
}

/** Makes the two name each other. Only whoever holds the state directory's lock may call this. */
export async function recordRuntimeDir(stateDir: string, runtimeDir: string): Promise<void> {
  // The way back first: the way there is good only with it.
  await placeLink(stateDir, join(runtimeDir, "state"));
  await placeLink(runtimeDir, join(stateDir, "runtime"));
}

/** In one move, in place of a link that is there. */
async function placeLink(target: string, path: string): Promise<void> {
  const staging = `${path}.new`;
  await rm(staging, { force: true });
  await symlink(target, staging);
  await rename(staging, path);
}
