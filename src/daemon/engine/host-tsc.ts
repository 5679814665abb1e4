/**
 * The rate of this host's time stamp counter, which is what an emulated guest reads as its own. Source: the kernel's
 * arch/x86/kernel/tsc.c: loops per jiffy are taken from the counter's rate, and /proc/cpuinfo shows them as "bogomips",
 * twice the rate in MHz.
 */

import { readFile } from "node:fs/promises";

const PLAUSIBLE_KHZ = { least: 200_000, most: 20_000_000 } as const;

/** kHz from the text of /proc/cpuinfo; null where the counter's rate isn't constant or isn't told. */
export function parseTscKhz(cpuinfo: string): number | null {
  const [first = ""] = cpuinfo.split(/\n\s*\n/);
  if (!/^flags\s*:.*\bconstant_tsc\b/m.test(first)) return null;
  const bogomips = Number(/^bogomips\s*:\s*([0-9]+(?:\.[0-9]+)?)\s*$/m.exec(first)?.[1] ?? NaN);
  const khz = Math.round(bogomips * 500);
  return khz >= PLAUSIBLE_KHZ.least && khz <= PLAUSIBLE_KHZ.most ? khz : null;
}

/** kHz of this host; null when it isn't known. */
export async function readTscKhz(): Promise<number | null> {
  return parseTscKhz(await readFile("/proc/cpuinfo", "utf8").catch(() => ""));
}
