/** The daemon's log: one JSON object per line, with the operation's id where there is one; bounded. */

import { closeSync, existsSync, fstatSync, openSync, renameSync, writeSync } from "node:fs";

export type Fields = Readonly<Record<string, unknown>>;

export interface Log {
  debug(message: string, fields?: Fields): void;
  info(message: string, fields?: Fields): void;
  warn(message: string, fields?: Fields): void;
  error(message: string, fields?: Fields): void;
}

const LIMIT_BYTES = 8 * 1024 * 1024;

const LEVELS = ["debug", "info", "warn", "error"] as const;
export type LogLevel = (typeof LEVELS)[number];

/** Appends lines of at least that level to `path`; past 8 MiB the file becomes `<path>.1`, replacing the one before. */
export function openLog(path: string, least: LogLevel = "info"): Log {
  let fd = openSync(path, "a", 0o600);
  let size = fstatSync(fd).size;
  const write = (level: LogLevel, message: string, fields: Fields = {}): void => {
    if (LEVELS.indexOf(level) < LEVELS.indexOf(least)) return;
    const line = `${JSON.stringify({ time: new Date().toISOString(), level, message, ...fields })}\n`;
    if (size > LIMIT_BYTES && existsSync(path)) {
      closeSync(fd);
      renameSync(path, `${path}.1`);
      fd = openSync(path, "a", 0o600);
      size = 0;
    }
    size += writeSync(fd, line);
  };
  return {
    debug: (message, fields) => write("debug", message, fields),
    info: (message, fields) => write("info", message, fields),
    warn: (message, fields) => write("warn", message, fields),
    error: (message, fields) => write("error", message, fields),
  };
}
