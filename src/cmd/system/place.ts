/**
 * Puts files and directories of the system where they belong. Every parent is root's and nobody else's to write, which is
 * checked, so a path means the same thing from one call to the next.
 */

import { constants } from "node:fs";
import {
  chmod,
  chown,
  lstat,
  mkdir,
  open,
  readFile,
  readlink,
  rename,
  rm,
  symlink,
  type FileHandle,
} from "node:fs/promises";
import { dirname, join } from "node:path";
import { BangerError, isErrno } from "../../shared/errors.ts";

export interface DirectoryRule {
  readonly path: string;
  readonly uid: number;
  readonly gid: number;
  readonly mode: number;
}

/**
 * The directory, with that owner and mode from birth: it is made 0700, handed over, and only then opened as far as it
 * should be. True when it was made or changed.
 * @throws BangerError UNSAFE_DIRECTORY: a link, no directory, or somebody else's
 */
export async function ensureDirectory(rule: DirectoryRule): Promise<boolean> {
  const { path, uid, gid, mode } = rule;
  const made = await mkdir(path, { mode: 0o700 }).then(
    () => true,
    (thrown: unknown) => {
      if (isErrno(thrown, "EEXIST")) return false;
      throw thrown;
    },
  );
  await using directory = await openDirectory(path);
  const info = await directory.stat();
  if (!made && info.uid !== uid)
    throw new BangerError("UNSAFE_DIRECTORY", `${path} belongs to uid ${info.uid}; it must belong to ${uid}`, {
      details: { path },
    });
  let changed = made;
  if (info.uid !== uid || info.gid !== gid) {
    await directory.chown(uid, gid);
    changed = true;
  }
  if ((info.mode & 0o7777) !== mode) {
    await directory.chmod(mode);
    changed = true;
  }
  return changed;
}

async function openDirectory(path: string): Promise<FileHandle> {
  try {
    return await open(path, constants.O_RDONLY | constants.O_DIRECTORY | constants.O_NOFOLLOW);
  } catch (cause) {
    if (!isErrno(cause, "ELOOP") && !isErrno(cause, "ENOTDIR")) throw cause;
    throw new BangerError("UNSAFE_DIRECTORY", `${path} is a link or not a directory`, { cause, details: { path } });
  }
}

/**
 * Whoever may write a directory on the way may put a program of his own where root will run it.
 * @throws BangerError UNSAFE_DIRECTORY naming the directory
 */
export async function checkRootOnly(path: string): Promise<void> {
  for (let at = path; ; at = dirname(at)) {
    const info = await lstat(at).catch((thrown: unknown) => {
      if (isErrno(thrown, "ENOENT")) return null;
      throw thrown;
    });
    if (info !== null) {
      const why = !info.isDirectory()
        ? "is not a directory"
        : info.uid !== 0
          ? `belongs to uid ${info.uid}`
          : (info.mode & 0o022) !== 0
            ? "can be written by users other than root"
            : null;
      if (why !== null)
        throw new BangerError("UNSAFE_DIRECTORY", `${at} ${why}, but files below it run as root`, {
          hint: `sudo chown root: ${at} && sudo chmod go-w ${at}`,
          details: { path: at },
        });
    }
    if (at === "/") return;
  }
}

/**
 * A root-owned file with these contents, written beside and renamed: nobody ever sees half of it. True when it was written,
 * false when it was so already.
 */
export async function placeFile(path: string, contents: Uint8Array | string, mode: number): Promise<boolean> {
  const bytes = typeof contents === "string" ? Buffer.from(contents) : contents;
  if (await isPlaced(path, bytes, mode)) return false;
  const staging = join(dirname(path), `.banger-${process.pid}-${Bun.randomUUIDv7()}`);
  try {
    {
      await using file = await open(staging, "wx", 0o600);
      await file.writeFile(bytes);
      await file.chown(0, 0);
      await file.chmod(mode);
      await file.sync();
    }
    await rename(staging, path);
  } finally {
    await rm(staging, { force: true });
  }
  await syncDirectory(dirname(path));
  return true;
}

async function isPlaced(path: string, bytes: Uint8Array, mode: number): Promise<boolean> {
  const info = await lstat(path).catch(() => null);
  if (info === null || !info.isFile() || info.uid !== 0 || info.gid !== 0) return false;
  if ((info.mode & 0o7777) !== mode || info.size !== bytes.length) return false;
  return Buffer.compare(await readFile(path), bytes) === 0;
}

async function syncDirectory(path: string): Promise<void> {
  await using directory = await open(path, constants.O_RDONLY | constants.O_DIRECTORY);
  await directory.sync();
}

/** A symbolic link; true when it was made or changed. @throws BangerError ALREADY_EXISTS when something else is there */
export async function placeLink(path: string, target: string): Promise<boolean> {
  const info = await lstat(path).catch(() => null);
  if (info !== null && !info.isSymbolicLink())
    throw new BangerError("ALREADY_EXISTS", `${path} already exists and does not belong to banger`, {
      details: { path },
    });
  if (info !== null && (await readlink(path)) === target) return false;
  const staging = join(dirname(path), `.banger-${process.pid}-${Bun.randomUUIDv7()}`);
  await symlink(target, staging);
  await rename(staging, path);
  return true;
}

/** Opens an executable to everybody and to root's hand only. */
export async function makeRootExecutable(path: string): Promise<void> {
  await chown(path, 0, 0);
  await chmod(path, 0o755);
}
