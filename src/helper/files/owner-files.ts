/** The owner's files that a VM needs: found by id, checked and used by descriptor. */

import { constants, openSync } from "node:fs";
import { BangerError, type ErrorCode, isErrno } from "../../shared/errors.ts";
import type { HelperContext } from "../context.ts";
import { openBelowState } from "./directories.ts";
import { enforce, ownersFile, ownersOnlyFile } from "../gates.ts";
import { Descriptor } from "../sys/descriptors.ts";

/**
 * Opens a regular file below the state directory, by a path that the helper builds from checked ids. The checked file
 * is the one used: the descriptor stays open, so replacing the name afterwards changes nothing.
 * @throws BangerError `missing` if it doesn't exist; HELPER_REFUSED if it isn't the owner's regular file
 */
export function openOwnersFile(
  context: HelperContext,
  path: string,
  missing: ErrorCode,
  options: { readonly onlyName: boolean },
): Descriptor {
  let file: Descriptor;
  try {
    file = openBelowState(context, path);
  } catch (thrown) {
    if (isErrno(thrown, "ENOENT")) throw new BangerError(missing, `${path} does not exist`, { cause: thrown });
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
 * Opens the same file for its contents, through the descriptor, so that it is the file that was checked. Doesn't wait
 * for a lease (fcntl(2) F_SETLEASE), which the file's owner may take at any time.
 * @throws BangerError IN_USE
 */
export function reopen(file: Descriptor, flags: number): Descriptor {
  try {
    return new Descriptor(openSync(file.procPath, flags | constants.O_NOCTTY | constants.O_NONBLOCK), file.label);
  } catch (thrown) {
    if (isErrno(thrown, "EAGAIN"))
      throw new BangerError("IN_USE", `another process has a lease on ${file.label}`, { cause: thrown });
    throw thrown;
  }
}
