/** `ssh NAME.vm` for plain ssh, scp, rsync and remote editors: banger's own config file, and one marked block in the user's. */

import type { Stats } from "node:fs";
import { chmod, lstat, readFile, readlink, rename, rm, stat, truncate, writeFile } from "node:fs/promises";
import { homedir } from "node:os";
import { dirname, join, resolve } from "node:path";
import { BangerError, isErrno } from "../../shared/errors.ts";
import type { Paths } from "../../shared/places/paths.ts";
import { ensurePrivateDirectory } from "../../shared/places/private-directory.ts";
import { selfArgv } from "../../shared/places/self.ts";

const BEGIN = "# >>> banger >>>";
const END = "# <<< banger <<<";

export function userConfigPath(): string {
  return join(homedir(), ".ssh", "config");
}

/** A value of ssh_config(5): quoted; `%` begins its tokens. @throws BangerError INVALID_VALUE for what it can't hold */
function sshValue(text: string): string {
  if (/["\n\r]/.test(text))
    throw new BangerError("INVALID_VALUE", `ssh's configuration can't contain the path ${JSON.stringify(text)}`);
  return `"${text.replaceAll("%", "%%")}"`;
}

/** A word of a command that ssh gives to the user's shell. */
function shellWord(text: string): string {
  return `'${text.replaceAll("'", "'\\''").replaceAll("%", "%%")}'`;
}

/**
 * Options by which a `Host *` of the user's could change where the connection goes, who is believed, or what the guest
 * may do here. ssh takes the first value it meets, so each is set in the block that is included first.
 */
const FIXED = [
  // Newer than the oldest ssh that can do the rest (8.5).
  ["IgnoreUnknown", "SessionType,StdinNull,ForkAfterAuthentication"],
  // Where to: the proxy finds the VM.
  ["HostName", "%h"],
  ["Port", "22"],
  ["CanonicalizeHostname", "no"],
  ["ProxyUseFdpass", "no"],
  // A shared connection would lead to the VM that had this name before.
  ["ControlMaster", "no"],
  ["ControlPath", "none"],
  // Who we are.
  ["User", "root"],
  ["IdentitiesOnly", "yes"],
  ["IdentityAgent", "none"],
  ["PKCS11Provider", "none"],
  ["PreferredAuthentications", "publickey"],
  ["PubkeyAuthentication", "yes"],
  ["PubkeyAcceptedAlgorithms", "ssh-ed25519"],
  ["AddKeysToAgent", "no"],
  // Who the guest is.
  ["StrictHostKeyChecking", "yes"],
  ["HostKeyAlgorithms", "ssh-ed25519"],
  ["CheckHostIP", "no"],
  ["NoHostAuthenticationForLocalhost", "no"],
  ["VerifyHostKeyDNS", "no"],
  ["UpdateHostKeys", "no"],
  ["UserKnownHostsFile", "/dev/null"],
  ["GlobalKnownHostsFile", "/dev/null"],
  ["RevokedHostKeys", "none"],
  // What the guest may do here: nothing.
  ["ForwardAgent", "no"],
  ["ForwardX11", "no"],
  ["ForwardX11Trusted", "no"],
  ["GSSAPIDelegateCredentials", "no"],
  ["Tunnel", "no"],
  // What runs besides: nothing.
  ["PermitLocalCommand", "no"],
  ["RemoteCommand", "none"],
  ["RequestTTY", "auto"],
  ["SessionType", "default"],
  ["StdinNull", "no"],
  ["ForkAfterAuthentication", "no"],
  // ssh's own lists, whatever was chosen for other hosts.
  ["KexAlgorithms", "^curve25519-sha256"],
  ["Ciphers", "^chacha20-poly1305@openssh.com"],
  ["MACs", "^umac-128-etm@openssh.com"],
] as const;

/**
 * The file. Where a VM is and which host key it has are asked of banger at every connection, so nothing in here goes
 * stale.
 */
export function bangerSshConfig(paths: Paths): string {
  const self = selfArgv().map(shellWord).join(" ");
  const own = selfArgv().map(sshValue).join(" ");
  return [
    "# Written by banger ssh-config.",
    // ssh compares these letter by letter, and a name has no case.
    "Host *.vm *.VM *.Vm *.vM",
    `  IdentityFile ${sshValue(join(paths.sshDir, "id_ed25519"))}`,
    `  KnownHostsCommand ${own} internal known-hosts %n %H`,
    // Once this is set, a ProxyJump has no effect (ssh_config(5)).
    `  ProxyCommand ${self} internal ssh-proxy %n`,
    ...FIXED.map(([name, value]) => `  ${name} ${value}`),
    "",
  ].join("\n");
}

/** Writes the file and returns its path. */
export async function writeBangerSshConfig(paths: Paths): Promise<string> {
  await ensurePrivateDirectory(paths.stateDir);
  await ensurePrivateDirectory(paths.sshDir);
  const path = join(paths.sshDir, "config");
  await replaceFile(await lookAt(path), Buffer.from(bangerSshConfig(paths)).toString("latin1"), 0o600);
  return path;
}

/*
 * The user's file is bytes, one per character here: a comment in it may be Latin-1.
 */

/** From its first line to the end of its last, however an editor ended them. */
const BLOCK = new RegExp(`^${BEGIN}\r?\n(?:(?!${BEGIN})[^])*?^${END}(?:\r?\n|$)`, "m");
/** In a block whose file banger made. */
const MADE = "# Made by banger; goes with it.";

/** `text` without the marked block. */
export function withoutBlock(text: string): string {
  return text.replace(BLOCK, "");
}

/** `text` with the marked block first: what stands after a `Host` line would hold for that host only. */
export function withBlock(text: string, included: string, isNew = false): string {
  const path = Buffer.from(sshValue(included)).toString("latin1");
  const wasNew = isNew || (BLOCK.exec(text)?.[0].includes(MADE) ?? false);
  return `${BEGIN}\n${wasNew ? `${MADE}\n` : ""}Include ${path}\n${END}\n${withoutBlock(text)}`;
}

/** True when the file changed. @throws BangerError NOT_A_FILE, NO_ACCESS, READ_ONLY */
export async function installInclude(path: string, included: string): Promise<boolean> {
  const file = await lookAt(path);
  const before = await readOrNull(file);
  const after = withBlock(before ?? "", included, before === null);
  if (after === before) return false;
  if (before === null) await ensureSshDirectory(dirname(path));
  await replaceFile(file, after, 0o600);
  return true;
}

/** True when the file changed; one that banger made, and that holds nothing else, goes. @throws BangerError */
export async function removeInclude(path: string): Promise<boolean> {
  const file = await lookAt(path);
  const before = await readOrNull(file);
  if (before === null) return false;
  const after = withoutBlock(before);
  if (after === before) return false;
  if (after === "" && (BLOCK.exec(before)?.[0].includes(MADE) ?? false)) await rm(file.target);
  else await replaceFile(file, after, 0o600);
  return true;
}

/** A file that may be a link, and may be none yet. */
interface UserFile {
  /** Where the last link leads, whether or not something is there. */
  readonly target: string;
  readonly info: Stats | null;
}

/** Links that lead to links (path_resolution(7)). */
const LINK_LIMIT = 40;

/** @throws BangerError NOT_A_FILE, and for what the system refuses */
async function lookAt(path: string): Promise<UserFile> {
  let target = path;
  for (let links = 0; links < LINK_LIMIT; links++) {
    const info = await lstat(target).catch((thrown: unknown) => {
      if (isErrno(thrown, "ENOENT")) return null;
      throw thrown;
    });
    if (info?.isSymbolicLink() !== true) {
      if (info !== null && !info.isFile())
        throw new BangerError(
          "NOT_A_FILE",
          `${path} is a ${info.isDirectory() ? "directory" : "device, fifo or socket"}`,
          {
            hint: `ls -l ${path}`,
          },
        );
      return { target, info };
    }
    target = resolve(dirname(target), await readlink(target));
  }
  throw new BangerError("NOT_A_FILE", `${path} is a link that leads back to itself`, { hint: `ls -l ${path}` });
}

async function readOrNull({ target, info }: UserFile): Promise<string | null> {
  return info === null ? null : (await readFile(target)).toString("latin1");
}

async function ensureSshDirectory(dir: string): Promise<void> {
  if ((await stat(dir).catch(() => null)) === null) await ensurePrivateDirectory(dir);
}

/** In one step, with the mode it had; in place where another name, another owner or a mount would be left behind. */
async function replaceFile({ target, info }: UserFile, text: string, mode: number): Promise<void> {
  const bytes = Buffer.from(text, "latin1");
  if (info !== null && (info.nlink > 1 || info.uid !== process.geteuid?.())) {
    await writeFile(target, bytes, { flag: "r+" });
    return await truncate(target, bytes.length);
  }
  const staging = `${target}.banger-${process.pid}`;
  try {
    await writeFile(staging, bytes, { mode: info === null ? mode : info.mode & 0o777, flag: "wx" });
    if (info !== null) await chmod(staging, info.mode & 0o777);
    await rename(staging, target);
  } finally {
    await rm(staging, { force: true });
  }
}
