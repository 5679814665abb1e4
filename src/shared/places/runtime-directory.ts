/**
 * Finds the sockets of rootless mode. A state directory has one daemon, and names its runtime directory by its link
 * `runtime`; the runtime directory names the state directory by its link `state`. So the daemon is found through the
 * state directory, whatever the environment, and never another state's daemon.
 */

import { lstatSync, readlinkSync, statSync } from "node:fs";
import { rename, rm, symlink } from "node:fs/promises";
import { join } from "node:path";

/** The longest path of a unix socket (unix(7): 108 bytes with the final zero). */
export const SOCKET_PATH_LIMIT_BYTES = 107;

/**
 * The longest name below a runtime directory: ssh appends 17 characters to the name of a control socket while binding
 * it.
 */
const LONGEST_NAME = `/vms/${"0".repeat(12)}/ssh.sock.${"0".repeat(16)}`;

type Env = Readonly<Record<string, string | undefined>>;

/**
 * Chooses the runtime directory of a state directory that has none: below XDG_RUNTIME_DIR, or below /tmp if that
 * variable is unset or too long for sockets to fit. Pure.
 */
export function chooseRuntimeDir(env: Env, uid: number, stateDir: string): string {
  const key = new Bun.CryptoHasher("sha256").update(stateDir).digest("hex").slice(0, 12);
  const base = env["XDG_RUNTIME_DIR"];
  const wanted = base?.startsWith("/") === true ? join(base, `banger-${key}`) : null;
  const fits = wanted !== null && Buffer.byteLength(wanted + LONGEST_NAME) <= SOCKET_PATH_LIMIT_BYTES;
  return fits ? wanted : `/tmp/banger-runtime-${uid}-${key}`;
}

/**
 * Finds the runtime directory that a state directory names; null if it names none, a missing one, or another state's,
 * as a copied state directory does.
 */
export function findRuntimeDir(stateDir: string): string | null {
  try {
    const runtimeDir = readlinkSync(join(stateDir, "runtime"));
    const info = lstatSync(runtimeDir);
    // In /tmp another user may take the name of a removed directory.
    if (!runtimeDir.startsWith("/") || !info.isDirectory() || info.uid !== process.getuid?.()) return null;
    const [named, own] = [statSync(join(runtimeDir, "state")), statSync(stateDir)];
    return named.dev === own.dev && named.ino === own.ino ? runtimeDir : null;
  } catch {
    return null;
  }
}

/** Links the two directories to each other. Call it only while holding the state directory's lock. */
export async function recordRuntimeDir(stateDir: string, runtimeDir: string): Promise<void> {
  // The link back first: the link to the runtime directory is valid only with it.
  await placeLink(stateDir, join(runtimeDir, "state"));
  await placeLink(runtimeDir, join(stateDir, "runtime"));
}

/** Replaces an existing link atomically. */
async function placeLink(target: string, path: string): Promise<void> {
  const staging = `${path}.new`;
  await rm(staging, { force: true });
  await symlink(target, staging);
  await rename(staging, path);
}
