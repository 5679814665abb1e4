/** Names under .vm on this host: a DNS server of the daemon's own, and the host's resolver told to ask it. */

import { type BangerError, toBangerError } from "../../../../shared/errors.ts";
import type { VmRecord } from "../../../../shared/contract/schemas.ts";
import type { Log } from "../../../log.ts";
import type { Privileged } from "../privileged.ts";
import { type DnsServer, type SocketKeeper, startDnsServer } from "./dns-server.ts";

/** A helper that ends too, as at a shutdown of the host, doesn't answer. */
const UNROUTE_TIMEOUT_MS = 3000;

export class NameService {
  readonly #privileged: Privileged;
  readonly #log: Log;
  #server: DnsServer | null = null;
  /** The bridge that the resolver was told to ask for names at. */
  #routed: string | null = null;
  #telling: Promise<void> = Promise.resolve();
  /** What went wrong outside any VM's life, by what it is about; doctor's rows. */
  readonly troubles = new Map<"dns" | "resolver", BangerError>();

  constructor(privileged: Privileged, log: Log) {
    this.#privileged = privileged;
    this.#log = log;
  }

  #note(about: "dns" | "resolver", thrown: unknown): void {
    const error = toBangerError(thrown);
    this.troubles.set(about, error);
    this.#log.warn("names under .vm do not resolve on this host", { error: error.message });
  }

  /** Answers at `address` (`IP:PORT`) for the VMs that run. What fails is one of the {@link troubles}. */
  async serve(address: string, vms: () => readonly VmRecord[], socket: SocketKeeper | undefined): Promise<void> {
    const [ip = "", port = ""] = address.split(":");
    const addressOf = (name: string): string | null => {
      const vm = vms().find((each) => each.name === name);
      return vm?.state === "running" ? (vm.guestIp ?? null) : null;
    };
    this.#server = await startDnsServer({ ip, port: Number(port) }, addressOf, socket).catch((thrown: unknown) => {
      this.#note("dns", thrown);
      return null;
    });
  }

  /** Has the resolver ask this daemon, if it got its port: what else may listen there is not asked. */
  async route(bridge: string): Promise<void> {
    if (this.#server === null) return;
    this.#routed = bridge;
    try {
      await this.#privileged.call("priv.sync_resolver_routing", { bridge, resolver: this.#server.address });
      this.troubles.delete("resolver");
    } catch (thrown) {
      // Guests run without it; doctor says what is missing.
      this.#note("resolver", thrown);
    }
  }

  /** {@link route}, which nobody waits for but {@link close}. */
  routeLater(bridge: string): void {
    this.#telling = this.route(bridge);
  }

  async close(): Promise<void> {
    await this.#telling;
    await this.#unroute();
    const server = this.#server;
    this.#server = null;
    await server?.close();
  }

  /** Before the port is given up. What a daemon that was killed left is cleared by its unit. */
  async #unroute(): Promise<void> {
    if (this.#routed === null) return;
    const clearing = this.#privileged
      .call("priv.clear_resolver_routing", { bridge: this.#routed })
      .catch((thrown: unknown) => {
        this.#log.warn("the resolver was not told that names end", { error: toBangerError(thrown).message });
      });
    await Promise.race([clearing, Bun.sleep(UNROUTE_TIMEOUT_MS)]);
  }
}
