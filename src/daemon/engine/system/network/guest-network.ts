/**
 * The guests' network of system mode: one bridge, a tap per running VM, NAT where asked, and a few taps made ahead. The
 * helper does each; which, and when, is decided here. Which tap a VM has follows from its address.
 */

import { BangerError, toBangerError } from "../../../../shared/errors.ts";
import type { HelperOutputOf } from "../../../../shared/contract/helper-api.ts";
import type { Log } from "../../../log.ts";
import { PROBE_TAP } from "../../../../shared/host-names.ts";
import type { Privileged } from "../privileged.ts";
import { chooseNetwork, lastFreeAddress, type Network, nextFreeAddress, type Route, tapOf } from "./addresses.ts";

export interface NetworkSettings {
  readonly bridge: string;
  /** The bridge's address; null leaves it to banger. */
  readonly ip: string | null;
  readonly prefix: number;
  /** Taps made ahead, at most. */
  readonly poolSize: number;
}

export class GuestNetwork {
  readonly #privileged: Privileged;
  readonly #log: Log;
  readonly #settings: NetworkSettings;
  readonly #readRoutes: () => readonly Route[];
  /** Called when the bridge was made or found, for what no guest waits for; it never rejects. */
  readonly #onBridge: (network: Network) => Promise<void>;
  #network: Network | null = null;
  #collision: Route | null = null;
  #bridge: Promise<void> | null = null;
  readonly #warm = new Set<string>();
  /** Taps of running guests: making one of these ahead would take it from its VM. */
  readonly #attached = new Set<string>();
  readonly #making = new Map<string, Promise<void>>();
  #filling: Promise<void> = Promise.resolve();
  /** A filling that is put off. */
  #later: { readonly timer: NodeJS.Timeout; readonly run: () => void } | null = null;
  #probe: ReturnType<GuestNetwork["probeNat"]> | null = null;
  #probeAddress: string | null = null;
  #probeTurns = 0;

  constructor(parts: {
    readonly privileged: Privileged;
    readonly log: Log;
    readonly settings: NetworkSettings;
    readonly readRoutes: () => readonly Route[];
    readonly onBridge: (network: Network) => Promise<void>;
  }) {
    this.#privileged = parts.privileged;
    this.#log = parts.log;
    this.#settings = parts.settings;
    this.#readRoutes = parts.readRoutes;
    this.#onBridge = parts.onBridge;
  }

  /** What stands in the way of the range in use, or was in the way of the first choice. */
  get collision(): Route | null {
    return this.#collision;
  }

  /** The network, chosen at first use: `inUse` is the bridge's address that guests have theirs by. */
  network(inUse: string | null = null): Network {
    if (this.#network === null) {
      const { bridge, ip, prefix } = this.#settings;
      const choice = chooseNetwork({ bridge, ip, prefix, inUse, routes: this.#readRoutes() });
      this.#network = choice.network;
      this.#collision = choice.collision;
      if (choice.collision !== null) {
        this.#log.warn("the range of the guests' network collides with a route", {
          chosen: `${choice.network.ip}/${choice.network.prefix}`,
          device: choice.collision.device,
        });
      }
    }
    return this.#network;
  }

  /** Makes sure of the bridge, once per daemon. */
  async ensureBridge(): Promise<void> {
    this.#bridge ??= this.#makeBridge().catch((thrown: unknown) => {
      this.#bridge = null;
      throw thrown;
    });
    await this.#bridge;
  }

  async #makeBridge(): Promise<void> {
    const network = this.network();
    await this.#privileged.call("priv.ensure_bridge", network);
    const telling = this.#onBridge(network);
    this.#filling = this.#filling.then(() => telling);
  }

  /** The same again: a firewall's reload may have wiped the rules that keep guests in. */
  async reassureBridge(): Promise<void> {
    await this.#privileged.call("priv.ensure_bridge", this.network());
  }

  /** The tap of a guest's address, made if it isn't there. */
  async attach(guestIp: string): Promise<string> {
    const tap = tapOf(this.network(), guestIp);
    this.#attached.add(tap);
    await this.ensureBridge();
    await this.#making.get(tap)?.catch(() => undefined);
    // Doctor's tap gives its address back first: one address is one tap's.
    if (guestIp === this.#probeAddress) await this.#probe?.catch(() => undefined);
    if (!this.#warm.delete(tap)) await this.#createTap(tap, guestIp);
    return tap;
  }

  async #createTap(tap: string, guestIp: string): Promise<void> {
    const { bridge } = this.network();
    const wanted = { tap, bridge, guest_ip: guestIp };
    try {
      await this.#privileged.call("priv.create_tap", wanted);
    } catch (thrown) {
      // Somebody removed the bridge since; a second refusal is a real one.
      if (toBangerError(thrown).code !== "FAILED") throw thrown;
      this.#bridge = null;
      await this.ensureBridge();
      await this.#privileged.call("priv.create_tap", wanted);
    }
  }

  /** A guest that was found running: its tap is its own. */
  adopt(guestIp: string): void {
    this.#attached.add(tapOf(this.network(), guestIp));
  }

  /** Removes a guest's tap; one that isn't there is fine. */
  async detach(guestIp: string): Promise<void> {
    const tap = tapOf(this.network(), guestIp);
    this.#warm.delete(tap);
    await this.#privileged.call("priv.delete_tap", { tap });
    this.#attached.delete(tap);
  }

  /** Lets a guest out, or no longer. Rules that are there already, or gone already, are fine. */
  async setNat(guestIp: string, enable: boolean): Promise<void> {
    await this.#privileged.call("priv.ensure_nat", {
      guest_ip: guestIp,
      tap: tapOf(this.network(), guestIp),
      enable,
    });
  }

  /**
   * Sends one real packet through the NAT path, from an address and a tap that are nobody's and are given back whatever comes of
   * it; calls at once share one. `taken` are VMs' addresses.
   * @throws BangerError NETWORK without a default route, IN_USE when no address is free, the helper's own
   */
  async probeNat(taken: ReadonlySet<string>): Promise<HelperOutputOf<"priv.probe_nat"> & { readonly uplink: string }> {
    this.#probe ??= this.#probeNat(taken).finally(() => {
      this.#probe = null;
    });
    return await this.#probe;
  }

  async #probeNat(taken: ReadonlySet<string>): ReturnType<GuestNetwork["probeNat"]> {
    const guestIp = lastFreeAddress(this.network(), taken);
    if (guestIp === null) throw new BangerError("IN_USE", "every address of the guests' range belongs to a VM");
    await this.ensureBridge();
    const guest = { guest_ip: guestIp, tap: PROBE_TAP };
    this.#probeTurns++;
    this.#probeAddress = guestIp;
    try {
      // One made ahead for that address, in a range with few: one address is one tap's.
      const ahead = tapOf(this.network(), guestIp);
      await this.#making.get(ahead)?.catch(() => undefined);
      if (this.#warm.delete(ahead)) await this.#privileged.call("priv.delete_tap", { tap: ahead });
      await this.#createTap(PROBE_TAP, guestIp);
      const { uplink } = await this.#privileged.call("priv.ensure_nat", { ...guest, enable: true });
      return { ...(await this.#privileged.call("priv.probe_nat", guest)), uplink: uplink ?? "" };
    } finally {
      for (const undo of [
        async () => await this.#privileged.call("priv.ensure_nat", { ...guest, enable: false }),
        async () => await this.#privileged.call("priv.delete_tap", { tap: PROBE_TAP }),
      ]) {
        await undo().catch((thrown: unknown) =>
          this.#log.warn("something of doctor's packet is left; gc takes it away", {
            error: toBangerError(thrown).message,
          }),
        );
      }
      this.#probeTurns++;
      this.#probeAddress = null;
    }
  }

  /** Rises as a probe begins and as it ends: {@link PROBE_TAP} is nobody's where it was even, and the same, before and after looking. */
  get probeTurns(): number {
    return this.#probeTurns;
  }

  /** Taps that an earlier daemon made ahead: those that are no guest's of `taken`. */
  rememberPool(taps: readonly string[], taken: ReadonlySet<string>): void {
    const owned = new Set([...taken].map((address) => tapOf(this.network(), address)));
    for (const tap of taps) {
      if (tap !== PROBE_TAP && !owned.has(tap) && !this.#attached.has(tap)) this.#warm.add(tap);
    }
  }

  /** Taps that wait for a guest. */
  get warm(): ReadonlySet<string> {
    return this.#warm;
  }

  /**
   * Makes the taps of the next free addresses, in the background; one batch at a time, and the first failure ends it: a
   * host that refuses one would refuse the rest. With `wanted` 0 those that wait are removed.
   */
  fillPool(taken: ReadonlySet<string>, wanted = this.#settings.poolSize): void {
    clearTimeout(this.#later?.timer);
    this.#later = null;
    this.#filling = this.#filling
      .then(async () => await this.#fill(taken, wanted))
      .catch((thrown: unknown) =>
        this.#log.warn("taps could not be made ahead", { error: toBangerError(thrown).message }),
      );
  }

  /** Does {@link fillPool} after a while, or when somebody waits for it; another call of either replaces it. */
  fillPoolLater(taken: () => ReadonlySet<string>, afterMs: number): void {
    clearTimeout(this.#later?.timer);
    const run = (): void => this.fillPool(taken());
    this.#later = { timer: setTimeout(run, afterMs).unref(), run };
  }

  /** Resolves when nothing is under way in the background. What was put off is done now. */
  async settled(): Promise<void> {
    this.#later?.run();
    await this.#filling;
  }

  async #fill(taken: ReadonlySet<string>, wanted: number): Promise<void> {
    const network = this.network();
    const next = new Set(taken);
    const targets = new Map<string, string>();
    while (targets.size < wanted) {
      let address: string;
      try {
        address = nextFreeAddress(network, next);
      } catch (thrown) {
        // The range is full: that many taps there can be and no more.
        if (thrown instanceof BangerError && thrown.code === "IN_USE") break;
        throw thrown;
      }
      next.add(address);
      targets.set(tapOf(network, address), address);
    }
    const owned = new Set([...taken].map((address) => tapOf(network, address)));
    for (const tap of this.#warm) {
      if (targets.has(tap) || owned.has(tap)) continue;
      this.#warm.delete(tap);
      await this.#privileged.call("priv.delete_tap", { tap });
    }
    const missing = [...targets].filter(([tap]) => !this.#warm.has(tap));
    if (missing.length === 0) return;
    await this.ensureBridge();
    for (const [tap, address] of missing) {
      if (this.#attached.has(tap)) continue;
      const making = this.#createTap(tap, address).then(() => {
        this.#warm.add(tap);
      });
      this.#making.set(tap, making);
      await making.finally(() => this.#making.delete(tap));
    }
  }
}
