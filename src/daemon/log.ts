/** The daemon's log: one JSON object per line, with the operation's id where there is one; bounded. */

import { closeSync, existsSync, fstatSync, openSync, renameSync, writeSync } from "node:fs";
import { createConsola, LogLevels } from "consola/core";
import { fileErrorCode, isErrno } from "../shared/errors.ts";

export type Fields = Readonly<Record<string, unknown>>;

export interface Log {
  debug(message: string, fields?: Fields): void;
  info(message: string, fields?: Fields): void;
  warn(message: string, fields?: Fields): void;
  error(message: string, fields?: Fields): void;
}

const LIMIT_BYTES = 8 * 1024 * 1024;

export type LogLevel = "debug" | "info" | "warn" | "error";

/** Appends lines of at least that level to `path`; past 8 MiB the file becomes `<path>.1`, replacing the one before. */
export function openLog(path: string, least: LogLevel = "info"): Log {
  let fd = openSync(path, "a", 0o600);
  let size = fstatSync(fd).size;
  const write = (line: string): void => {
    if (size > LIMIT_BYTES && existsSync(path)) {
      closeSync(fd);
      renameSync(path, `${path}.1`);
      fd = openSync(path, "a", 0o600);
      size = 0;
    }
    size += writeSync(fd, line);
  };
  const append = (line: string): void => {
    try {
      write(line);
    } catch (thrown) {
      // On a full disk the daemon still answers, so that something can be deleted; only what it logs is lost.
      if (fileErrorCode(thrown) === null && !isErrno(thrown, "EIO")) throw thrown;
    }
  };
  const log = createConsola({
    level: LogLevels[least],
    // Every line counts: none waits to be told together with others like it.
    throttle: 0,
    reporters: [
      {
        log: ({ date, type: level, args: [message, fields] }) =>
          append(`${JSON.stringify({ time: date.toISOString(), level, message, ...(fields as Fields) })}\n`),
      },
    ],
  });
  const at =
    (level: LogLevel) =>
    (message: string, fields: Fields = {}): void =>
      log[level](message, fields);
  return { debug: at("debug"), info: at("info"), warn: at("warn"), error: at("error") };
}
