/**
 * Directories for private things (privileges.md "Rootless mode"): ours, 0700 from birth, never through a link.
 * The attack: somebody who may write the parent (/tmp) places a link, a file or a directory of his own first,
 * to read what is put there or to have a socket made where he wants it.
 */

import { constants } from "node:fs";
import { lstat, mkdir, open } from "node:fs/promises";
import { BangerError, isErrno } from "./errors.ts";

function refuse(path: string, why: string): BangerError {
  return new BangerError("UNSAFE_DIRECTORY", `${path} ${why}, so banger will not use it`, {
    details: { path },
    hint: `ls -ld ${path}`,
  });
}

/**
 * Makes sure that `path` is a directory of this user that nobody else can enter, making it if need be. What is checked and
 * tightened is the opened directory itself, not the name.
 * @throws BangerError UNSAFE_DIRECTORY
 */
export async function ensurePrivateDirectory(path: string): Promise<void> {
  try {
    await mkdir(path, { mode: 0o700 });
  } catch (thrown) {
    if (isErrno(thrown, "ENOENT")) {
      await mkdir(path, { mode: 0o700, recursive: true });
    } else if (!isErrno(thrown, "EEXIST")) {
      throw thrown;
    }
  }
  await verify(path, true);
}

/** Like {@link ensurePrivateDirectory}, but makes nothing. False when there is nothing. */
export async function checkPrivateDirectory(path: string): Promise<boolean> {
  return await verify(path, false);
}

async function verify(path: string, mustExist: boolean): Promise<boolean> {
  let handle;
  try {
    handle = await open(path, constants.O_RDONLY | constants.O_DIRECTORY | constants.O_NOFOLLOW);
  } catch (thrown) {
    if (isErrno(thrown, "ENOENT")) {
      if (!mustExist) return false;
      throw refuse(path, "vanished while it was being made");
    }
    if (isErrno(thrown, "ENOTDIR") || isErrno(thrown, "ELOOP")) {
      const link = await lstat(path).then(
        (info) => info.isSymbolicLink(),
        () => false,
      );
      throw refuse(path, link ? "is a link" : "is not a directory");
    }
    if (isErrno(thrown, "EACCES")) throw refuse(path, "belongs to another user");
    throw thrown;
  }
  try {
    const info = await handle.stat();
    const uid = process.getuid?.() ?? -1;
    if (info.uid !== uid) throw refuse(path, `belongs to uid ${info.uid}, not to you (${uid})`);
    if ((info.mode & 0o077) !== 0) await handle.chmod(0o700);
    return true;
  } finally {
    await handle.close();
  }
}
