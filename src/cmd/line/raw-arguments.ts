/** Arguments as they were given: the runtime decodes them as UTF-8, and what isn't becomes another text without a word. */

import { readFileSync } from "node:fs";
import { BangerError } from "../../shared/errors.ts";

const REPLACEMENT = "\u{fffd}";

/**
 * @param argv the last arguments of this process, as the runtime decoded them
 * @throws BangerError INVALID_VALUE for one that isn't UTF-8: it can't be carried, and is never changed
 */
export function checkArguments(argv: readonly string[]): void {
  if (!argv.some((argument) => argument.includes(REPLACEMENT))) return;
  const given = readFileSync("/proc/self/cmdline").toString("latin1").split("\0").slice(0, -1).slice(-argv.length);
  for (const [i, argument] of argv.entries()) {
    const bytes = Buffer.from(given[i] ?? "", "latin1");
    if (Buffer.from(argument).equals(bytes)) continue;
    throw new BangerError("INVALID_VALUE", `argument ${i + 1} is not UTF-8: ${JSON.stringify(argument)}`, {
      hint: "pass the bytes on standard input, or in a file",
    });
  }
}
