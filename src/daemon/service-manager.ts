/** What systemd hands to a service and hears from it. Sources: sd_listen_fds(3), sd_notify(3). */

import { sendDatagram } from "./system-calls.ts";

type Env = Readonly<Record<string, string | undefined>>;

/** The first descriptor passed by socket activation. */
const FIRST_DESCRIPTOR = 3;

/** The one socket that systemd listens on for this process; null when it was started otherwise. */
export function inheritedSocket(env: Env, pid: number): number | null {
  return env["LISTEN_PID"] === String(pid) && env["LISTEN_FDS"] === "1" ? FIRST_DESCRIPTOR : null;
}

/** Tells the service manager, where there is one. */
export function notifyServiceManager(env: Env, state: "READY=1" | "STOPPING=1"): void {
  const path = env["NOTIFY_SOCKET"];
  if (path !== undefined && path !== "") sendDatagram(path, state);
}
