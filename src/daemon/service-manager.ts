/** What systemd hands to a service, keeps for it, and hears from it. Sources: sd_listen_fds(3), sd_notify(3). */

import { sendDatagram } from "./system-calls.ts";

type Env = Readonly<Record<string, string | undefined>>;

/** The first descriptor passed by socket activation. */
const FIRST_DESCRIPTOR = 3;
/** The name under which the manager keeps the DNS server's socket. */
const DNS_NAME = "dns";

export interface InheritedSockets {
  /** The listening socket of the API; null when the daemon makes its own. */
  readonly api: number | null;
  /** The socket that a daemon before this one had kept by {@link keepDnsSocket}; null when there is none. */
  readonly dns: number | null;
}

/** The sockets that systemd passed to this process. */
export function inheritedSockets(env: Env, pid: number): InheritedSockets {
  const count = Number(env["LISTEN_FDS"]);
  if (env["LISTEN_PID"] !== String(pid) || !(count >= 1 && count <= 2)) return { api: null, dns: null };
  const names = (env["LISTEN_FDNAMES"] ?? "").split(":").slice(0, count);
  const [api, dns] = [names.findIndex((name) => name !== DNS_NAME), names.indexOf(DNS_NAME)].map((index) =>
    index === -1 ? null : FIRST_DESCRIPTOR + index,
  );
  return { api: api ?? null, dns: dns ?? null };
}

/** Tells the service manager, where there is one. */
export function notifyServiceManager(env: Env, state: "READY=1" | "STOPPING=1"): void {
  notify(env, state, null);
}

/**
 * Has the service manager keep the DNS server's socket, in place of one it may have: while this daemon is dead the port
 * is still taken, and the next daemon gets it back. Polling is off: an error of a client's is no end of the socket.
 */
export function keepDnsSocket(env: Env, fd: number): void {
  notify(env, `FDSTOREREMOVE=1\nFDNAME=${DNS_NAME}`, null);
  notify(env, `FDSTORE=1\nFDNAME=${DNS_NAME}\nFDPOLL=0`, fd);
}

function notify(env: Env, text: string, descriptor: number | null): void {
  const path = env["NOTIFY_SOCKET"];
  if (path !== undefined && path !== "") sendDatagram(path, text, descriptor);
}
