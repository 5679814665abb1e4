/**
 * Private directories: ours, mode 0700 from creation, never reached through a link. The attack: a user who may write
 * the parent (such as /tmp) first places a link, file or directory there, to read what is put in it or to have a socket
 * made elsewhere.
 */

import { constants, lstatSync } from "node:fs";
import { lstat, mkdir, open } from "node:fs/promises";
import { dirname, join } from "node:path";
import { BangerError, fileErrorCode, isErrno } from "../errors.ts";

function refuse(path: string, why: string): BangerError {
  return new BangerError("UNSAFE_DIRECTORY", `${path} ${why}, so banger will not use it`, {
    details: { path },
    hint: `ls -ld ${path}`,
  });
}

/**
 * Makes sure that `path` is this user's directory and that nobody else can enter it. Creates it if needed. Checks and
 * tightens the opened directory itself, not the name.
 * @throws BangerError UNSAFE_DIRECTORY, NO_ACCESS, READ_ONLY, NO_SPACE
 */
export async function ensurePrivateDirectory(path: string): Promise<void> {
  try {
    await mkdir(path, { mode: 0o700 });
  } catch (thrown) {
    if (isErrno(thrown, "ENOENT")) {
      await mkdir(path, { mode: 0o700, recursive: true }).catch((again: unknown) => {
        throw explainDirectory(path, again);
      });
    } else if (!isErrno(thrown, "EEXIST")) {
      throw explainDirectory(path, thrown);
    }
  }
  await verify(path, true);
}

/** Like {@link ensurePrivateDirectory}, but creates nothing. Returns false if the directory doesn't exist. */
export async function checkPrivateDirectory(path: string): Promise<boolean> {
  return await verify(path, false);
}

/** Explains why a directory can't be made or opened, naming the nearest directory above that is the cause. */
function explainDirectory(path: string, thrown: unknown): unknown {
  if (isErrno(thrown, "ENOTDIR") || isErrno(thrown, "EEXIST"))
    return refuse(path, "is below something that is not a directory");
  const code = fileErrorCode(thrown);
  if (code === null) return thrown;
  const above = nearestAbove(path);
  const details = { path, above: above.path };
  switch (code) {
    case "NO_SPACE":
      return new BangerError(code, `${path} can't be made: the file system of ${above.path} is full`, {
        details,
        hint: `df -h ${above.path}`,
      });
    case "READ_ONLY":
      return new BangerError(code, `${path} can't be made: the file system of ${above.path} is read-only`, {
        details,
        hint: `findmnt --target ${above.path}`,
      });
    default:
      return new BangerError(
        code,
        `${path} can't be made or entered: ${above.path} belongs to uid ${above.uid}, with mode ${above.mode}, and you are uid ${ownUid()}`,
        { details, hint: isBelowRuntimeBase(path) ? "unset XDG_RUNTIME_DIR" : `ls -ld ${above.path}` },
      );
  }
}

/** After `su`, XDG_RUNTIME_DIR may still name the directory of the user before, such as /run/user/0. */
function isBelowRuntimeBase(path: string): boolean {
  const base = process.env["XDG_RUNTIME_DIR"] ?? "";
  return base.startsWith("/") && path.startsWith(join(base, "/"));
}

const ownUid = (): number => process.getuid?.() ?? -1;

/** Finds the nearest existing directory above a path. */
function nearestAbove(path: string): { readonly path: string; readonly uid: number; readonly mode: string } {
  for (let above = dirname(path); ; above = dirname(above)) {
    try {
      const { uid, mode } = lstatSync(above);
      return { path: above, uid, mode: (mode & 0o7777).toString(8) };
    } catch (thrown) {
      if (above === "/") throw thrown;
    }
  }
}

async function verify(path: string, mustExist: boolean): Promise<boolean> {
  let handle;
  try {
    handle = await open(path, constants.O_RDONLY | constants.O_DIRECTORY | constants.O_NOFOLLOW);
  } catch (thrown) {
    if (isErrno(thrown, "ENOENT")) {
      if (!mustExist) return false;
      throw refuse(path, "disappeared while it was being created");
    }
    if (isErrno(thrown, "ENOTDIR") || isErrno(thrown, "ELOOP")) {
      const link = await lstat(path).then(
        (info) => info.isSymbolicLink(),
        () => false,
      );
      throw refuse(path, link ? "is a link" : "is not a directory");
    }
    if (isErrno(thrown, "EACCES")) {
      const info = await lstat(path).catch(() => null);
      if (info === null) throw explainDirectory(path, thrown);
      throw refuse(path, info.uid === ownUid() ? "can't be opened by you" : `belongs to uid ${info.uid}`);
    }
    throw thrown;
  }
  try {
    const info = await handle.stat();
    const uid = ownUid();
    if (info.uid !== uid) throw refuse(path, `belongs to uid ${info.uid}, not to you (${uid})`);
    if ((info.mode & 0o077) !== 0) await handle.chmod(0o700);
    return true;
  } finally {
    await handle.close();
  }
}
