/** Guests that reboot. A VMM ends with its guest, so the daemon starts the VM again. Pure but for what is remembered. */

import type { VmId } from "../../shared/contract/schemas.ts";

/** A guest that is up for less than this before it reboots may be caught in a loop. */
const QUICK_MS = 60_000;
/** Quick reboots in a row that are followed. */
const QUICK_REBOOTS = 3;

/**
 * What the kernel prints last before it resets the machine (kernel/reboot.c), and after that only its own notice. A panic
 * ends without these words, and so does a power-off.
 */
const RESTARTING = /reboot: Restarting system[^\n]*\s*(?:[^\n]*reboot: machine restart\s*)?$/;
/** What the kernel prints last when it has no way to cut the power: the guest is over, its VMM isn't. */
const POWERED_DOWN = /reboot: (?:Power down|System halted)\s*$/;

/** How much of the console's end tells. */
export const LAST_WORDS_BYTES = 256;

export const isReboot = (lastWords: string): boolean => RESTARTING.test(lastWords);
export const isPowerOff = (lastWords: string): boolean => POWERED_DOWN.test(lastWords);

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
