/** A measured ratio: two things timed alternately, so that a noisy machine disturbs both. */

import { median } from "../support/median.ts";

export interface Ratio {
  readonly what: string;
  readonly oursMs: number;
  readonly theirsMs: number;
  readonly ratio: number;
  readonly bar: number | null;
  readonly rounds: number;
}

/** Times a program to its end. @throws Error when it fails */
export async function time(argv: readonly string[], env: Readonly<Record<string, string>>): Promise<number> {
  const start = performance.now();
  const child = Bun.spawn([...argv], { env, stdin: "ignore", stdout: "ignore", stderr: "pipe" });
  const [said, status] = await Promise.all([new Response(child.stderr).text(), child.exited]);
  if (status !== 0) throw new Error(`${argv.join(" ")} ended with ${status}: ${said}`);
  return performance.now() - start;
}

export async function compare(
  what: string,
  bar: number | null,
  count: number,
  ours: () => Promise<number>,
  theirs: () => Promise<number>,
): Promise<Ratio> {
  const oursMs: number[] = [];
  const theirsMs: number[] = [];
  for (let round = 0; round < count; round++) {
    oursMs.push(await ours());
    theirsMs.push(await theirs());
  }
  const ratio = median(oursMs) / median(theirsMs);
  const row = { what, oursMs: median(oursMs), theirsMs: median(theirsMs), ratio, bar, rounds: count };
  console.error(
    `${what}: ${row.oursMs.toFixed(1)} ms / ${row.theirsMs.toFixed(1)} ms = ${ratio.toFixed(2)}${bar === null ? "" : ` (bar ${bar})`}`,
  );
  return row;
}
