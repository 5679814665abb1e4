/** A question on a terminal. */

import { createInterface } from "node:readline";
import { BangerError } from "../../shared/errors.ts";
import type { Interrupts } from "./interrupts.ts";
import type { Output } from "./output.ts";

/** True for `y` or `yes`; everything else, the end of input included, is no. @throws BangerError CANCELLED */
export async function confirm(question: string, out: Output, interrupts: Interrupts): Promise<boolean> {
  out.ask(`${question} [y/N] `);
  const lines = createInterface({ input: process.stdin });
  try {
    const answer = await new Promise<string>((resolve, reject) => {
      lines.once("line", resolve);
      lines.once("close", () => resolve(""));
      interrupts.signal.addEventListener("abort", () => reject(new BangerError("CANCELLED", "interrupted")));
    });
    return /^y(?:es)?$/i.test(answer.trim());
  } finally {
    lines.close();
    process.stdin.unref();
  }
}
