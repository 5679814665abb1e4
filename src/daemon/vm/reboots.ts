/** Guests that reboot. A VMM ends with its guest, so the daemon starts the VM again. Pure but for what is remembered. */

import type { VmId } from "../../shared/contract/schemas.ts";

/** A guest that is up for less than this before it reboots may be caught in a loop. */
const QUICK_MS = 60_000;
/** Quick reboots in a row that are followed. */
const QUICK_REBOOTS = 3;

export class Reboots {
  readonly #quick = new Map<VmId, number>();

  /** Whether a guest that rebooted after so long is started again. Called once for each reboot. */
  allow(id: VmId, upMs: number): boolean {
    if (upMs >= QUICK_MS) {
      this.#quick.delete(id);
      return true;
    }
    const count = (this.#quick.get(id) ?? 0) + 1;
    this.#quick.set(id, count);
    return count <= QUICK_REBOOTS;
  }

  /** Somebody started or removed it: what was before doesn't count. */
  forget(id: VmId): void {
    this.#quick.delete(id);
  }
}
