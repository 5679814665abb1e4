/** Who is at the other end of a unix socket: SO_PEERCRED (unix(7)). The daemon's only foreign function. */

import { dlopen, FFIType, ptr } from "bun:ffi";
import type { Socket } from "node:net";

const SOL_SOCKET = 1;
const SO_PEERCRED = 17;

const libc = dlopen("libc.so.6", {
  getsockopt: { args: [FFIType.i32, FFIType.i32, FFIType.i32, FFIType.ptr, FFIType.ptr], returns: FFIType.i32 },
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
