/** A guest's network traffic, from its /proc/net/dev (proc_net(5)). The guest may say anything. */

import type { GuestAddress } from "./address.ts";
import type { GuestConnection } from "./connection.ts";

const ANSWER_TIMEOUT_MS = 5000;

export interface Counters {
  readonly rxBytes: number;
  readonly txBytes: number;
}

/** Bytes counted by every interface but loopback. Skips lines that aren't all numbers. */
export function parseCounters(output: string): Counters {
  let rxBytes = 0;
  let txBytes = 0;
  for (const line of output.split("\n")) {
    const [name, numbers] = line.split(":");
    const fields = numbers?.trim().split(/\s+/).map(Number);
    if (fields === undefined || name?.trim() === "lo" || !fields.every(Number.isSafeInteger)) continue;
    rxBytes += fields[0] ?? 0;
    txBytes += fields[8] ?? 0;
  }
  return { rxBytes, txBytes };
}

/** Null when the guest doesn't answer. */
export async function readCounters(
  connection: Pick<GuestConnection, "runLine">,
  address: GuestAddress,
): Promise<Counters | null> {
  const result = await connection.runLine(address, "cat /proc/net/dev", ANSWER_TIMEOUT_MS).catch(() => null);
  return result === null || result.exitCode !== 0 ? null : parseCounters(result.stdout);
}
