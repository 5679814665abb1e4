/** A log that keeps what was written, for tests. */

import type { Fields, Log } from "../../src/daemon/log.ts";

export interface KeptLine {
  readonly level: "debug" | "info" | "warn" | "error";
  readonly message: string;
  readonly fields: Fields;
}

export function keepLog(): Log & { readonly lines: readonly KeptLine[] } {
  const lines: KeptLine[] = [];
  const keep =
    (level: KeptLine["level"]) =>
    (message: string, fields: Fields = {}): void => {
      lines.push({ level, message, fields });
    };
  return { lines, debug: keep("debug"), info: keep("info"), warn: keep("warn"), error: keep("error") };
}
