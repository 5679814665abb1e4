/** `ssh NAME.vm` for plain ssh, scp, rsync and remote editors: banger's own config file, and one marked block in the user's. */

import { readFile, realpath, rename, rm, stat, writeFile } from "node:fs/promises";
import { homedir } from "node:os";
import { dirname, join } from "node:path";
import { BangerError, isErrno } from "../shared/errors.ts";
import type { Paths } from "../shared/paths.ts";
import { ensurePrivateDirectory } from "../shared/private-directory.ts";
import { selfArgv } from "../shared/self.ts";

const BEGIN = "# >>> banger >>>";
const END = "# <<< banger <<<";

export function userConfigPath(): string {
  return join(homedir(), ".ssh", "config");
}

/** A value of ssh_config(5): quoted; `%` begins its tokens. @throws BangerError INVALID_VALUE for what it can't hold */
function sshValue(text: string): string {
  if (/["\n\r]/.test(text))
    throw new BangerError("INVALID_VALUE", `ssh's configuration can't hold the path ${JSON.stringify(text)}`);
  return `"${text.replaceAll("%", "%%")}"`;
}

/** A word of a command that ssh gives to the user's shell. */
function shellWord(text: string): string {
  return `'${text.replaceAll("'", "'\\''").replaceAll("%", "%%")}'`;
}

/**
 * The file. Where a VM is and which host key it has are asked of banger at every connection, so nothing in here goes
 * stale.
 */
export function bangerSshConfig(paths: Paths): string {
  const self = selfArgv().map(shellWord).join(" ");
  const own = selfArgv().map(sshValue).join(" ");
  return [
    "# Written by banger ssh-config.",
    "Host *.vm",
    "  User root",
    `  IdentityFile ${sshValue(join(paths.sshDir, "id_ed25519"))}`,
    "  IdentitiesOnly yes",
    "  IdentityAgent none",
    "  StrictHostKeyChecking yes",
    "  CheckHostIP no",
    "  UserKnownHostsFile /dev/null",
    "  GlobalKnownHostsFile /dev/null",
    `  KnownHostsCommand ${own} internal known-hosts %H`,
    `  ProxyCommand ${self} internal ssh-proxy %n`,
    "",
  ].join("\n");
}

/** Writes the file and returns its path. */
export async function writeBangerSshConfig(paths: Paths): Promise<string> {
  await ensurePrivateDirectory(paths.stateDir);
  await ensurePrivateDirectory(paths.sshDir);
  const path = join(paths.sshDir, "config");
  await replaceFile(path, bangerSshConfig(paths), 0o600);
  return path;
}

/** `text` without the marked block. */
export function withoutBlock(text: string): string {
  const begin = text.indexOf(`${BEGIN}\n`);
  if (begin === -1) return text;
  const end = text.indexOf(`${END}\n`, begin);
  if (end === -1) return text;
  return text.slice(0, begin) + text.slice(end + END.length + 1);
}

/** `text` with the marked block first: what stands after a `Host` line would hold for that host only. */
export function withBlock(text: string, included: string): string {
  return `${BEGIN}\nInclude ${sshValue(included)}\n${END}\n${withoutBlock(text)}`;
}

/** True when the file changed. */
export async function installInclude(path: string, included: string): Promise<boolean> {
  const before = await readOrNull(path);
  const after = withBlock(before ?? "", included);
  if (after === before) return false;
  if (before === null) await ensureSshDirectory(dirname(path));
  await replaceFile(path, after, 0o600);
  return true;
}

/** True when the file changed; one that held nothing else is removed. */
export async function removeInclude(path: string): Promise<boolean> {
  const before = await readOrNull(path);
  if (before === null) return false;
  const after = withoutBlock(before);
  if (after === before) return false;
  if (after === "") await rm(path);
  else await replaceFile(path, after, 0o600);
  return true;
}

async function readOrNull(path: string): Promise<string | null> {
  try {
    return await readFile(path, "utf8");
  } catch (thrown) {
    if (isErrno(thrown, "ENOENT")) return null;
    throw thrown;
  }
}

async function ensureSshDirectory(dir: string): Promise<void> {
  if ((await stat(dir).catch(() => null)) === null) await ensurePrivateDirectory(dir);
}

/** In one step, with the mode it had; a link keeps pointing where it points. */
async function replaceFile(path: string, text: string, mode: number): Promise<void> {
  const target = await realpath(path).catch(() => path);
  const had = await stat(target).catch(() => null);
  const staging = `${target}.banger-${process.pid}`;
  try {
    await writeFile(staging, text, { mode: had === null ? mode : had.mode & 0o777, flag: "wx" });
    await rename(staging, target);
  } finally {
    await rm(staging, { force: true });
  }
}
