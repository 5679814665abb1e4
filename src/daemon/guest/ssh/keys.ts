/** Keys of rootless mode: the user's banger key, and per VM a host key made by us, so nothing is trusted on first use. */

import { existsSync } from "node:fs";
import { mkdir, readFile, rename, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { BangerError } from "../../../shared/errors.ts";
import type { Paths } from "../../../shared/places/paths.ts";
import type { VmId } from "../../../shared/contract/schemas.ts";
import { runTool } from "../../host/run-tool.ts";

const KEYGEN_TIMEOUT_MS = 30_000;

export const userKeyPath = (paths: Paths): string => join(paths.sshDir, "id_ed25519");
export const knownHostsPath = (paths: Paths): string => join(paths.sshDir, "known_hosts");
export const hostKeyPath = (vmStateDir: string): string => join(vmStateDir, "ssh_host_ed25519_key");

/** The name under which a VM's host key stands in known_hosts, whatever its port is today. */
export const hostKeyAlias = (id: VmId): string => `banger-${id}`;

// Two first users at once must get one key: the second waits for the first.
const making = new Map<string, Promise<void>>();

async function ensureKey(path: string, comment: string, signal?: AbortSignal): Promise<void> {
  for (let other = making.get(path); other !== undefined; other = making.get(path)) await other.catch(() => undefined);
  if (existsSync(path)) return;
  const turn = makeKey(path, comment, signal).finally(() => making.delete(path));
  making.set(path, turn);
  await turn;
}

async function makeKey(path: string, comment: string, signal?: AbortSignal): Promise<void> {
  const staging = `${path}.${crypto.randomUUID()}`;
  await runTool(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", comment, "-f", staging], {
    timeoutMs: KEYGEN_TIMEOUT_MS,
    ...(signal === undefined ? {} : { signal }),
  });
  // Public part first: where the private part is, both are.
  await rename(`${staging}.pub`, `${path}.pub`);
  await rename(staging, path);
}

/** The user's banger key, made at first use. */
export async function ensureUserKey(paths: Paths): Promise<string> {
  await mkdir(paths.sshDir, { recursive: true, mode: 0o700 });
  const path = userKeyPath(paths);
  await ensureKey(path, "banger");
  return await readFile(`${path}.pub`, "utf8");
}

/**
 * The public half of a key of the user's own (`ssh_key_path` of the configuration).
 * @throws BangerError CONFIG_INVALID when it can't be read or is no public key
 */
export async function readOwnKey(path: string, home: string): Promise<string> {
  const file = `${path.startsWith("~/") ? join(home, path.slice(2)) : path}.pub`;
  const text = await readFile(file, "utf8").catch((cause: unknown) => {
    throw new BangerError("CONFIG_INVALID", `ssh_key_path: ${file} can't be read`, { cause });
  });
  const [line = "", ...more] = text.trim().split("\n");
  if (more.length > 0 || !/^(?:ssh|ecdsa|sk)-\S+ [A-Za-z0-9+/=]+(?: .*)?$/.test(line)) {
    throw new BangerError("CONFIG_INVALID", `ssh_key_path: ${file} is not an OpenSSH public key`);
  }
  return `${line}\n`;
}

/** The VM's host key. Returns both halves, for the work disk. */
export async function ensureHostKey(
  vmStateDir: string,
  id: VmId,
  signal: AbortSignal,
): Promise<{ readonly secret: string; readonly shared: string }> {
  const path = hostKeyPath(vmStateDir);
  await ensureKey(path, hostKeyAlias(id), signal);
  return { secret: await readFile(path, "utf8"), shared: await readFile(`${path}.pub`, "utf8") };
}

// One writer: the daemon. Its own calls must not overtake each other between read and rename.
let knownHostsQueue: Promise<void> = Promise.resolve();

function withKnownHosts(work: () => Promise<void>): Promise<void> {
  const turn = knownHostsQueue.then(work);
  knownHostsQueue = turn.catch(() => undefined);
  return turn;
}

/** Pins the VM's host key, in place of an older one. */
export async function rememberHost(paths: Paths, id: VmId, publicKey: string): Promise<void> {
  const [type, key] = publicKey.trim().split(" ");
  await replaceHost(paths, id, `${hostKeyAlias(id)} ${type} ${key}`);
}

/** Forgets the VM's host key. */
export async function forgetHost(paths: Paths, id: VmId): Promise<void> {
  await replaceHost(paths, id, null);
}

async function replaceHost(paths: Paths, id: VmId, line: string | null): Promise<void> {
  await withKnownHosts(async () => {
    const file = knownHostsPath(paths);
    const before = existsSync(file) ? await readFile(file, "utf8") : "";
    const others = before.split("\n").filter((known) => known !== "" && !known.startsWith(`${hostKeyAlias(id)} `));
    const after = [...others, ...(line === null ? [] : [line])].map((known) => `${known}\n`).join("");
    if (after === before) return;
    const staging = `${file}.new`;
    await rm(staging, { force: true });
    await writeFile(staging, after, { mode: 0o600 });
    await rename(staging, file);
  });
}
