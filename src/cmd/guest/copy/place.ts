/** Puts what was unpacked beside its target in its place. Names are bytes: a file name need not be UTF-8. */

import { constants } from "node:fs";
import { chmod, copyFile, lstat, mkdir, readdir, readlink, rename, rm, symlink, utimes } from "node:fs/promises";
import type { Stats } from "node:fs";
import { BangerError, isErrno } from "../../../shared/errors.ts";

const PERMISSIONS = 0o777;

export function joinBytes(dir: Buffer, name: Buffer): Buffer {
  return Buffer.concat([dir, Buffer.from("/"), name]);
}

function byteEntries(dir: Buffer): Promise<Buffer[]> {
  return readdir(dir, { encoding: "buffer" });
}

/** What stands under a name, links not followed; null when nothing. */
async function entryAt(path: Buffer): Promise<Stats | null> {
  try {
    return await lstat(path);
  } catch (thrown) {
    if (isErrno(thrown, "ENOENT")) return null;
    throw thrown;
  }
}

/** @throws BangerError FAILED where a thing of one kind would replace one of another; nothing was moved then */
export async function checkPlace(from: Buffer, to: Buffer): Promise<void> {
  const [incoming, there] = [await lstat(from), await entryAt(to)];
  if (there === null) return;
  if (incoming.isDirectory() !== there.isDirectory())
    throw new BangerError(
      "FAILED",
      incoming.isDirectory()
        ? `${to} is not a directory, but the copy has a directory of this name`
        : `${to} is a directory, but the copy has a file of this name`,
      { hint: `ls -ld ${to}` },
    );
  if (incoming.isDirectory()) {
    for (const name of await byteEntries(from)) await checkPlace(joinBytes(from, name), joinBytes(to, name));
  } else if (!there.isFile() && !there.isSymbolicLink()) {
    throw new BangerError("FAILED", `${to} is a device, fifo or socket, which is not replaced`, {
      hint: `ls -ld ${to}`,
    });
  }
}

/**
 * Moves a file or a tree. Directories merge; each file replaces what has its name in one step. A link is replaced and
 * never written through: an earlier copy from the same guest may have made it.
 * @param merged collects the directories that were there before
 */
export async function movePlace(from: Buffer, to: Buffer, merged: Set<string>): Promise<void> {
  const [incoming, there] = [await lstat(from), await entryAt(to)];
  if (incoming.isDirectory() && there !== null) {
    merged.add(to.toString("latin1"));
    for (const name of await byteEntries(from)) await movePlace(joinBytes(from, name), joinBytes(to, name), merged);
    return;
  }
  try {
    await rename(from, to);
  } catch (thrown) {
    // A mount point within the target.
    if (!isErrno(thrown, "EXDEV")) throw thrown;
    await copyAcross(from, to, incoming);
  }
}

async function copyAcross(from: Buffer, to: Buffer, info: Stats): Promise<void> {
  if (info.isDirectory()) {
    await mkdir(to, { mode: 0o700 });
    for (const name of await byteEntries(from)) {
      const child = joinBytes(from, name);
      await copyAcross(child, joinBytes(to, name), await lstat(child));
    }
    await chmod(to, info.mode & PERMISSIONS);
    await utimes(to, info.atime, info.mtime);
    return;
  }
  const staging = Buffer.concat([to, Buffer.from(`.banger-${process.pid}`)]);
  try {
    if (info.isSymbolicLink()) {
      await symlink(await readlink(from, { encoding: "buffer" }), staging);
    } else {
      await copyFile(from, staging, constants.COPYFILE_EXCL);
      await chmod(staging, info.mode & PERMISSIONS);
      await utimes(staging, info.atime, info.mtime);
    }
    await rename(staging, to);
  } finally {
    await rm(staging, { force: true });
  }
}
