/** Reads `/etc/banger/install.toml`. */

import { constants } from "node:fs";
import { open } from "node:fs/promises";
import { BangerError, isErrno } from "../../shared/errors.ts";
import { type InstallConfig, parseInstallConfig } from "../../shared/install-config.ts";

/**
 * What is installed; null when nothing is.
 * @throws BangerError CONFIG_INVALID, UNSAFE_DIRECTORY when others than root may have written it
 */
export async function readInstall(path: string): Promise<InstallConfig | null> {
  try {
    await using file = await open(path, constants.O_RDONLY | constants.O_NOFOLLOW);
    const info = await file.stat();
    if (!info.isFile() || info.uid !== 0 || (info.mode & 0o022) !== 0)
      throw new BangerError("UNSAFE_DIRECTORY", `${path} is not a file that only root can write`, {
        details: { path },
      });
    return parseInstallConfig(await file.readFile("utf8"));
  } catch (thrown) {
    if (isErrno(thrown, "ENOENT")) return null;
    throw thrown;
  }
}
