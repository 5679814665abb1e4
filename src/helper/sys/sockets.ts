/** Reads the peer of a unix socket, and notifies systemd. Source: unix(7), sd_notify(3). */

import type { Socket } from "node:net";
import { Descriptor } from "./descriptors.ts";
import { check, errno, libc, ptr } from "./libc.ts";

const SOL_SOCKET = 1;
const SO_PEERCRED = 17;
const AF_UNIX = 1;
const AF_INET = 2;
const SOCK_DGRAM = 2;
const SOCK_CLOEXEC = 0o2000000;

export interface Peer {
  readonly pid: number;
  readonly uid: number;
}

/**
 * The process that connected, as the kernel recorded it at that moment. @throws Error if the socket has no descriptor
 */
export function readPeer(socket: Socket): Peer {
  const fd = (socket as unknown as { readonly _handle?: { readonly fd?: number } })._handle?.fd;
  if (typeof fd !== "number" || fd < 0) throw new Error("the connection has no descriptor");
  // struct ucred: pid, uid, gid.
  const credentials = new Uint8Array(12);
  const length = new Uint8Array(new Uint32Array([credentials.length]).buffer);
  check(
    "getsockopt",
    "SO_PEERCRED",
    libc.getsockopt(fd, SOL_SOCKET, SO_PEERCRED, ptr(credentials), ptr(length)),
    errno(),
  );
  const view = new DataView(credentials.buffer);
  return { pid: view.getInt32(0, true), uid: view.getUint32(4, true) };
}

/** Opens a socket for sending, or for asking the kernel about interfaces. */
export function openDatagramSocket(): Descriptor {
  const fd = check("socket", "AF_UNIX, SOCK_DGRAM", libc.socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0), errno());
  return new Descriptor(fd, "a datagram socket");
}

/** Opens a socket for asking the kernel about IPv4 addresses. */
export function openInternetSocket(): Descriptor {
  const fd = check("socket", "AF_INET, SOCK_DGRAM", libc.socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0), errno());
  return new Descriptor(fd, "an internet socket");
}

/** Sends `message` (such as `READY=1`) to the service manager at the address in NOTIFY_SOCKET. */
export function notifyManager(address: string, message: string): void {
  const path = new TextEncoder().encode(address);
  // struct sockaddr_un. A leading @ means the abstract namespace and is written as a NUL; no final NUL follows there.
  const target = new Uint8Array(2 + path.length + (address.startsWith("@") ? 0 : 1));
  target[0] = AF_UNIX;
  target.set(path, 2);
  if (address.startsWith("@")) target[2] = 0;
  using socket = openDatagramSocket();
  const bytes = new TextEncoder().encode(message);
  check(
    "sendto",
    address,
    libc.sendto(socket.fd, ptr(bytes), BigInt(bytes.length), 0, ptr(target), target.length),
    errno(),
  );
}
