/** Why a daemon can't start, with the path and the next command. */

import { accessSync, closeSync, constants, existsSync, openSync, writeSync } from "node:fs";
import { dirname } from "node:path";
import { BangerError, type ErrorCode, fileErrorCode, toBangerError } from "../shared/errors.ts";
import type { Paths } from "../shared/places/paths.ts";

/** More than a new store needs, so that it shows whether there is room for one. */
const PROBE_BYTES = 256 * 1024;
/** open(2); Node has no name for it. Includes O_DIRECTORY. */
const O_TMPFILE = 0o20200000;

/**
 * The error for the user. SQLite often says only that it could not open or write a file; why is then found out by opening
 * and writing in its place.
 */
export function explainStartFailure(thrown: unknown, paths: Paths | null): BangerError {
  if (thrown instanceof BangerError || paths === null) return toBangerError(thrown);
  const { code, path, message } = thrown as NodeJS.ErrnoException;
  const own = fileErrorCode(thrown);
  if (own !== null) return describe(own, path ?? paths.stateDir, message, thrown);
  if (code?.startsWith("SQLITE_") !== true) return toBangerError(thrown);
  const found = findFileTrouble(paths);
  return found === null ? toBangerError(thrown) : describe(found.code, found.path, message, thrown);
}

function findFileTrouble(paths: Paths): { readonly code: ErrorCode; readonly path: string } | null {
  const attempts: readonly (readonly [string, () => void])[] = [
    [paths.stateDir, () => tryToWrite(paths.stateDir)],
    [paths.database, () => accessSync(paths.database, constants.R_OK | constants.W_OK)],
  ];
  for (const [path, attempt] of attempts) {
    try {
      attempt();
    } catch (thrown) {
      const code = fileErrorCode(thrown);
      if (code !== null) return { code, path };
    }
  }
  return null;
}

/** Writes to a file without a name, which is gone when it is closed. */
function tryToWrite(directory: string): void {
  const fd = openSync(directory, O_TMPFILE | constants.O_RDWR, 0o600);
  try {
    // Not zeroes: some file systems keep those for nothing.
    writeSync(fd, Buffer.alloc(PROBE_BYTES, "x"));
  } finally {
    closeSync(fd);
  }
}

function describe(code: ErrorCode, path: string, message: string, cause: unknown): BangerError {
  const there = existsSync(path) ? path : dirname(path);
  const [why, hint] =
    code === "NO_SPACE"
      ? ["its file system is full", `df -h ${there}`]
      : code === "READ_ONLY"
        ? ["its file system is read-only", `findmnt --target ${there}`]
        : ["permission denied", `ls -ld ${path}`];
  return new BangerError(code, `the daemon can't write ${path}: ${why}`, { details: { path, message }, hint, cause });
}
