/** The rules that keep guests in and let some out, made sure of again and again. */

import { toBangerError } from "../../../shared/errors.ts";
import type { VmId, VmRecord } from "../../../shared/contract/schemas.ts";
import type { Log } from "../../log.ts";
import type { GuestNetwork } from "./network/guest-network.ts";

/** How often rules are made sure of: a firewall's reload wipes them without a word. */
const RULES_CHECK_MS = 30_000;

export class GuestRules {
  readonly #network: GuestNetwork;
  readonly #log: Log;
  /** When rules were last made sure of: of a VM, or of the bridge. */
  readonly #checked = new Map<VmId | "bridge", number>();

  constructor(network: GuestNetwork, log: Log) {
    this.#network = network;
    this.#log = log;
  }

  /** Makes sure of a running VM's rules when it is time to. What fails is logged. */
  async lookAfter({ id, spec, guestIp }: VmRecord): Promise<void> {
    try {
      // What keeps guests in first: it holds for those without NAT, too.
      if (this.#isDue("bridge")) await this.#network.reassureBridge();
      if (spec.nat && guestIp !== undefined && guestIp !== null && this.#isDue(id))
        await this.#network.setNat(guestIp, true);
    } catch (thrown) {
      this.#log.warn("the rules of guests are not in place", { vm: id, error: toBangerError(thrown).message });
    }
  }

  #isDue(what: VmId | "bridge"): boolean {
    if (Date.now() - (this.#checked.get(what) ?? 0) < RULES_CHECK_MS) return false;
    this.#checked.set(what, Date.now());
    return true;
  }
}
