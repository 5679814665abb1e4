/**
 * Processes by descriptor, so that a reused pid can't redirect a signal. Source: pidfd_open(2), pidfd_send_signal(2).
 */

import { check, errno, libc, ptr } from "./libc.ts";
import { Descriptor } from "./descriptors.ts";

const SYS_PIDFD_SEND_SIGNAL = 424;
const SYS_PIDFD_OPEN = 434;
const POLLIN = 1;
const RLIMIT_CORE = 4;

/**
 * Turns off core files for this process and everything it starts later: a core file holds a guest's memory. Source:
 * setrlimit(2).
 */
export function forbidCoreFiles(): void {
  // struct rlimit: soft and hard limit, 64 bits each.
  const none = new Uint8Array(16);
  check("setrlimit", "RLIMIT_CORE, 0", libc.setrlimit(RLIMIT_CORE, ptr(none)), errno());
}

/** @throws SystemCallError ESRCH if the process doesn't exist */
export function openProcess(pid: number): Descriptor {
  return new Descriptor(
    check("pidfd_open", `${pid}`, libc.syscall(SYS_PIDFD_OPEN, pid, 0, 0, 0), errno()),
    `pid ${pid}`,
  );
}

/** @throws SystemCallError ESRCH if it has ended */
export function signalProcess(process: Descriptor, signal: number): void {
  check(
    "pidfd_send_signal",
    `${process.label}, ${signal}`,
    libc.syscall(SYS_PIDFD_SEND_SIGNAL, process.fd, signal, 0, 0),
    errno(),
  );
}

/** True once the process has ended: its descriptor then becomes readable. */
export function hasEnded(process: Descriptor): boolean {
  // struct pollfd: int fd; short events; short revents.
  const poll = new Uint8Array(8);
  const view = new DataView(poll.buffer);
  view.setInt32(0, process.fd, true);
  view.setInt16(4, POLLIN, true);
  return check("poll", process.label, libc.poll(ptr(poll), 1n, 0), errno()) > 0;
}
