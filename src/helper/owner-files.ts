/** Files of the owner's that a VM needs: found by id, checked and acted on by descriptor. */

import { constants, copyFileSync, openSync } from "node:fs";
import { BangerError, type ErrorCode, isErrno } from "../shared/errors.ts";
import type { HelperContext } from "./context.ts";
import { openState } from "./directories.ts";
import { enforce, ownersFile, ownersOnlyFile } from "./gates.ts";
import { Descriptor } from "./sys/descriptors.ts";

/**
 * A regular file below the state directory, by a path that the helper made of checked ids. What was checked is what is
 * used: the descriptor stays open, and exchanging the name afterwards changes nothing.
 * @throws BangerError `missing` when there is none; HELPER_REFUSED when it isn't the owner's regular file.
 */
export function openOwnersFile(
  context: HelperContext,
  path: string,
  missing: ErrorCode,
  options: { readonly onlyName: boolean },
): Descriptor {
  using state = openState(context);
  let file: Descriptor;
  try {
    file = state.openPath(path);
  } catch (thrown) {
    if (isErrno(thrown, "ENOENT")) throw new BangerError(missing, `there is no ${path}`, { cause: thrown });
    if (isErrno(thrown, "ELOOP") || isErrno(thrown, "EXDEV") || isErrno(thrown, "ENOTDIR")) {
      throw new BangerError("HELPER_REFUSED", `${path} leads through a link or out of the state directory`, {
        cause: thrown,
      });
    }
    throw thrown;
  }
  try {
    enforce(options.onlyName ? ownersOnlyFile : ownersFile, {
      file: { label: path, ...file.stat() },
      ownerUid: context.install.owner.uid,
    });
    return file;
  } catch (thrown) {
    file[Symbol.dispose]();
    throw thrown;
  }
}

/**
 * The same file, open for its contents: through the descriptor, so it is the file that was checked. Waits for no lease that the
 * owner has on it. @throws Error EAGAIN while there is one
 */
export function reopen(file: Descriptor, flags: number): Descriptor {
  return new Descriptor(openSync(file.procPath, flags | constants.O_NOCTTY | constants.O_NONBLOCK), file.label);
}

/** Hard-links the file, or copies it where it is on another file system. The copy is the uid's, read-only. */
export function linkOrCopy(file: Descriptor, directory: Descriptor, name: string, uid: number): void {
  try {
    directory.link(file, name);
    return;
  } catch (thrown) {
    if (!isErrno(thrown, "EXDEV")) throw thrown;
  }
  copyFileSync(file.procPath, `${directory.procPath}/${name}`, constants.COPYFILE_EXCL);
  using copy = directory.openPath(name);
  copy.chmod(0o400);
  copy.chown(uid, uid);
}
