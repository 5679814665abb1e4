/** Reads what `[[file_sync]]` names on the host. The owner's own files, but links must not lead a copy elsewhere. */

import { constants, type Stats } from "node:fs";
import { lstat, open, readdir, realpath, stat } from "node:fs/promises";
import { join } from "node:path";
import type { FileSync } from "../../shared/config.ts";
import { BangerError, isErrno } from "../../shared/errors.ts";
import type { DiskFile } from "../engine/disks/seed.ts";

const TOTAL_LIMIT_BYTES = 64 * 1024 ** 2;
const FILES_LIMIT = 10_000;

const isWithin = (path: string, tree: string): boolean => path === tree || path.startsWith(`${tree}/`);

/**
 * The files of all rules, with their places on the work disk. `warn` hears of what is missing, and of links that are skipped.
 * @throws BangerError INVALID_VALUE for what is neither file nor directory, can't be read, or is too much
 */
export async function collectSyncedFiles(
  rules: readonly FileSync[],
  home: string,
  warn: (message: string) => void,
): Promise<readonly DiskFile[]> {
  const files: DiskFile[] = [];
  let totalBytes = 0;

  const addFile = async (path: string, info: Stats, guest: string, mode: number | null): Promise<void> => {
    totalBytes += info.size;
    if (totalBytes > TOTAL_LIMIT_BYTES || files.length >= FILES_LIMIT) {
      throw new BangerError(
        "INVALID_VALUE",
        `file_sync selects more than ${TOTAL_LIMIT_BYTES / 1024 ** 2} MiB or ${FILES_LIMIT} files`,
      );
    }
    await using handle = await open(path, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
    const contents = await handle.readFile();
    files.push({ path: guest as `/${string}`, mode: mode ?? info.mode & 0o755, contents });
  };

  const add = async (path: string, tree: string, guest: string, mode: number | null): Promise<void> => {
    const info = await lstat(path);
    if (info.isSymbolicLink()) {
      const target = await realpath(path).catch(() => null);
      const targetInfo = target === null ? null : await stat(target);
      if (target === null || targetInfo === null || !isWithin(target, tree) || !targetInfo.isFile()) {
        warn(`file_sync: ${path} is a link that leads to no file inside ${tree}, so it is skipped`);
        return;
      }
      await addFile(target, targetInfo, guest, mode);
    } else if (info.isDirectory()) {
      for (const name of (await readdir(path)).toSorted()) await add(join(path, name), tree, `${guest}/${name}`, mode);
    } else if (info.isFile()) {
      await addFile(path, info, guest, mode);
    } else {
      throw new BangerError("INVALID_VALUE", `file_sync: ${path} is neither a file nor a directory`);
    }
  };

  const realHome = await realpath(home);
  for (const { host, guest, mode } of rules) {
    const named = join(realHome, host.slice("~/".length));
    try {
      const tree = await realpath(named);
      if (!isWithin(tree, realHome)) {
        warn(`file_sync: ${host} is a link that leads out of ${home}, so it is skipped`);
        continue;
      }
      // /root is the work disk's own root.
      await add(tree, tree, guest.slice("/root".length), mode);
    } catch (thrown) {
      if (thrown instanceof BangerError) throw thrown;
      if (isErrno(thrown, "ENOENT")) warn(`file_sync: there is no ${host}`);
      else
        throw new BangerError("INVALID_VALUE", `file_sync: ${host}: ${(thrown as Error).message}`, { cause: thrown });
    }
  }
  return files;
}
