/** Asks a guest to write its caches and end. */

import { BangerError } from "../../shared/errors.ts";
import type { GuestAddress } from "./address.ts";
import type { GuestConnection } from "./connection.ts";

/** A guest whose sshd says nothing for this long is not asked. */
const DIAL_MS = 2000;
/** A guest that is not connected yet gets this much of the time. */
const OPEN_TIMEOUT_MS = 2000;

/** The word that ends the guest's VMM. */
export type ShutdownWord = "poweroff" | "reboot";

/** True when the guest took the order; false when it can't be reached or refuses. */
export async function shutDown(
  connection: Pick<GuestConnection, "answers" | "open" | "runLine">,
  address: GuestAddress,
  word: ShutdownWord,
  timeoutMs: number,
): Promise<boolean> {
  try {
    if (!(await connection.answers(address, Math.min(timeoutMs, DIAL_MS)))) return false;
    await connection.open(address, Math.min(timeoutMs, OPEN_TIMEOUT_MS));
    const line = `sync; systemctl ${word} --no-block || ${word}`;
    return (await connection.runLine(address, line, timeoutMs)).exitCode === 0;
  } catch (thrown) {
    if (thrown instanceof BangerError) return false;
    throw thrown;
  }
}
