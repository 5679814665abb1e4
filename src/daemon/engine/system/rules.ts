/** The rules that keep guests in and let some out, made sure of again and again. */

import { toBangerError } from "../../../shared/errors.ts";
import type { VmId, VmRecord } from "../../../shared/contract/schemas.ts";
import type { Log } from "../../log.ts";
import type { GuestNetwork } from "./network/guest-network.ts";

/** How often rules are made sure of: a firewall's reload wipes them without a word. */
const RULES_CHECK_MS = 30_000;

/**
 * Checks the rules in rounds: first the bridge's, then those of each VM. What wipes one usually wipes all, and a bridge
 * whose guests' NAT is gone no longer forwards, so one pass over the VMs puts everything back.
 */
export class GuestRules {
  readonly #network: Pick<GuestNetwork, "reassureBridge" | "setNat">;
  readonly #log: Pick<Log, "warn">;
  readonly #now: () => number;
  #roundBegan = -Infinity;
  /** VMs whose NAT was checked in this round. */
  readonly #checked = new Set<VmId>();

  /** @param now milliseconds of a clock that is never set */
  constructor(
    network: Pick<GuestNetwork, "reassureBridge" | "setNat">,
    log: Pick<Log, "warn">,
    now = () => performance.now(),
  ) {
    this.#network = network;
    this.#log = log;
    this.#now = now;
  }

  /** Makes sure of a running VM's rules once a round. Starts a round when it is time to. What fails is logged. */
  async lookAfter({ id, spec, guestIp }: VmRecord): Promise<void> {
    try {
      // What keeps guests in first: it holds for those without NAT, too.
      if (this.#beginsRound()) await this.#network.reassureBridge();
      if (!spec.nat || guestIp === undefined || guestIp === null || this.#checked.has(id)) return;
      this.#checked.add(id);
      await this.#network.setNat(guestIp, true);
    } catch (thrown) {
      this.#log.warn("the rules of guests are not in place", { vm: id, error: toBangerError(thrown).message });
    }
  }

  #beginsRound(): boolean {
    const now = this.#now();
    if (now - this.#roundBegan < RULES_CHECK_MS) return false;
    this.#roundBegan = now;
    this.#checked.clear();
    return true;
  }
}
