/** What systemd hands to a service, keeps for it, and hears from it. Sources: sd_listen_fds(3), sd_notify(3). */

import { type GuardedSocket, sendDatagram } from "./system-calls.ts";

type Env = Readonly<Record<string, string | undefined>>;

/** The first descriptor passed by socket activation. */
const FIRST_DESCRIPTOR = 3;
/** The names under which the manager keeps the DNS server's sockets. */
const DNS_NAMES = ["dns", "dns-guard"] as const;

export interface InheritedSockets {
  /** The listening socket of the API; null when the daemon makes its own. */
  readonly api: number | null;
  /** What a daemon before this one had kept by {@link keepDnsSocket}; null when there is none. */
  readonly dns: GuardedSocket | null;
}

/** The sockets that systemd passed to this process. */
export function inheritedSockets(env: Env, pid: number): InheritedSockets {
  const count = Number(env["LISTEN_FDS"]);
  if (env["LISTEN_PID"] !== String(pid) || !(count >= 1 && count <= 1 + DNS_NAMES.length))
    return { api: null, dns: null };
  const names: readonly string[] = (env["LISTEN_FDNAMES"] ?? "").split(":").slice(0, count);
  const [api = null, fd = null, guard = null] = [
    names.findIndex((name) => !(DNS_NAMES as readonly string[]).includes(name)),
    ...DNS_NAMES.map((name) => names.indexOf(name)),
  ].map((index) => (index === -1 ? null : FIRST_DESCRIPTOR + index));
  return { api, dns: fd === null || guard === null ? null : { fd, guard } };
}

/** Tells the service manager, where there is one. */
export function notifyServiceManager(env: Env, state: "READY=1" | "STOPPING=1"): void {
  notify(env, state, null);
}

/**
 * Has the service manager keep the DNS server's sockets, in place of those it may have: while this daemon is dead the port
 * is still taken, and the next daemon gets it back. Polling is off: an error of a client's is no end of the socket.
 */
export function keepDnsSocket(env: Env, { fd, guard }: GuardedSocket): void {
  for (const [index, name] of DNS_NAMES.entries()) {
    notify(env, `FDSTOREREMOVE=1\nFDNAME=${name}`, null);
    notify(env, `FDSTORE=1\nFDNAME=${name}\nFDPOLL=0`, index === 0 ? fd : guard);
  }
}

function notify(env: Env, text: string, descriptor: number | null): void {
  const path = env["NOTIFY_SOCKET"];
  if (path !== undefined && path !== "") sendDatagram(path, text, descriptor);
}
