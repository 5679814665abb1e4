/** Arguments as they were given: the runtime decodes them as UTF-8, and what isn't becomes another text without a word. */

import { readFileSync } from "node:fs";
import { BangerError } from "../../shared/errors.ts";

const REPLACEMENT = "\u{fffd}";

/** Text, or the bytes of what isn't UTF-8. */
export type RawArgument = string | Uint8Array;

/** @param argv the last arguments of this process, as the runtime decoded them */
export function readRawArguments(argv: readonly string[]): readonly RawArgument[] {
  if (!argv.some((argument) => argument.includes(REPLACEMENT))) return argv;
  const given = readFileSync("/proc/self/cmdline").toString("latin1").split("\0").slice(0, -1).slice(-argv.length);
  return argv.map((argument, i) => {
    const bytes = Buffer.from(given[i] ?? "", "latin1");
    return Buffer.from(argument).equals(bytes) ? argument : bytes;
  });
}

/**
 * The arguments as text.
 * @param before how many arguments of the command line come before these
 * @throws BangerError INVALID_VALUE for one that isn't UTF-8: it can't be carried, and is never changed
 */
export function requireText(raw: readonly RawArgument[], before = 0): readonly string[] {
  return raw.map((argument, i) => {
    if (typeof argument === "string") return argument;
    const shown = JSON.stringify(Buffer.from(argument).toString());
    throw new BangerError("INVALID_VALUE", `argument ${before + i + 1} is not UTF-8: ${shown}`, {
      hint: "pass the bytes on standard input, or in a file",
    });
  });
}
