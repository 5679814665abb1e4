/** Unix sockets beyond what Bun offers: SO_PEERCRED and datagrams (unix(7)). The daemon's only foreign functions. */

import { dlopen, FFIType, ptr } from "bun:ffi";
import type { Socket } from "node:net";

const SOL_SOCKET = 1;
const SO_PEERCRED = 17;

const libc = dlopen("libc.so.6", {
  getsockopt: { args: [FFIType.i32, FFIType.i32, FFIType.i32, FFIType.ptr, FFIType.ptr], returns: FFIType.i32 },
  socket: { args: [FFIType.i32, FFIType.i32, FFIType.i32], returns: FFIType.i32 },
  sendto: {
    args: [FFIType.i32, FFIType.ptr, FFIType.u64, FFIType.i32, FFIType.ptr, FFIType.u32],
    returns: FFIType.i64,
  },
  close: { args: [FFIType.i32], returns: FFIType.i32 },
});

export interface PeerCredentials {
  readonly pid: number;
  readonly uid: number;
  readonly gid: number;
}

/** The credentials of the process that connected; null when the socket doesn't tell. */
export function readPeerCredentials(socket: Socket): PeerCredentials | null {
  const fd = (socket as unknown as { _handle?: { fd?: number } })._handle?.fd;
  if (typeof fd !== "number" || fd < 0) return null;
  const credentials = new Int32Array(3);
  const length = new Uint32Array([credentials.byteLength]);
  if (libc.symbols.getsockopt(fd, SOL_SOCKET, SO_PEERCRED, ptr(credentials), ptr(length)) !== 0) return null;
  const [pid = -1, uid = -1, gid = -1] = credentials;
  return { pid, uid, gid };
}

const AF_UNIX = 1;
const SOCK_DGRAM = 2;
const SOCK_CLOEXEC = 0o2000000;
const MSG_NOSIGNAL = 0x4000;
const SOCKET_PATH_LIMIT_BYTES = 107;

/** Sends one datagram to a unix socket; `@` as the first character stands for the abstract namespace. True when it went out. */
export function sendDatagram(path: string, text: string): boolean {
  const name = Buffer.from(path.startsWith("@") ? `\0${path.slice(1)}` : path);
  if (name.length === 0 || name.length > SOCKET_PATH_LIMIT_BYTES) return false;
  // sockaddr_un: the family, then the name; its length says where an abstract name ends.
  const address = new Uint8Array(2 + name.length + (name[0] === 0 ? 0 : 1));
  new DataView(address.buffer).setUint16(0, AF_UNIX, true);
  address.set(name, 2);
  const fd = libc.symbols.socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  if (fd < 0) return false;
  try {
    const bytes = Buffer.from(text);
    return (
      Number(libc.symbols.sendto(fd, ptr(bytes), BigInt(bytes.length), MSG_NOSIGNAL, ptr(address), address.length)) ===
      bytes.length
    );
  } finally {
    libc.symbols.close(fd);
  }
}
