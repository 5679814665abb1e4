/**
 * Sockets beyond what Bun offers: peer credentials, datagrams, connections whose bytes nobody reads ahead, descriptors
 * passed to another process. The daemon's only foreign functions. Sources: unix(7), socket(7), cmsg(3).
 */

import { dlopen, FFIType, ptr, read } from "bun:ffi";
import type { Socket } from "node:net";
import { SOCKET_PATH_LIMIT_BYTES } from "../../shared/places/runtime-directory.ts";

const { i32, i64, u32, u64, ptr: pointer } = FFIType;

const libc = dlopen("libc.so.6", {
  getsockopt: { args: [i32, i32, i32, pointer, pointer], returns: i32 },
  setsockopt: { args: [i32, i32, i32, pointer, u32], returns: i32 },
  socket: { args: [i32, i32, i32], returns: i32 },
  bind: { args: [i32, pointer, u32], returns: i32 },
  connect: { args: [i32, pointer, u32], returns: i32 },
  getsockname: { args: [i32, pointer, pointer], returns: i32 },
  send: { args: [i32, pointer, u64, i32], returns: i64 },
  recv: { args: [i32, pointer, u64, i32], returns: i64 },
  sendmsg: { args: [i32, pointer, i32], returns: i64 },
  close: { args: [i32], returns: i32 },
  __errno_location: { args: [], returns: pointer },
}).symbols;

const AF_UNIX = 1;
const AF_INET = 2;
const SOCK_STREAM = 1;
const SOCK_DGRAM = 2;
const SOCK_NONBLOCK = 0o4000;
const SOCK_CLOEXEC = 0o2000000;
const SOL_SOCKET = 1;
const SO_REUSEADDR = 2;
const SO_PEERCRED = 17;
const SO_RCVTIMEO = 20;
const SO_SNDTIMEO = 21;
const SCM_RIGHTS = 1;
const MSG_NOSIGNAL = 0x4000;
const DISCARD_PORT = 9;

/** A call that failed: its name and errno. */
class SystemCallError extends Error {
  override readonly name = "SystemCallError";
  readonly errno: number;

  constructor(call: string, errno: number) {
    super(`${call}: errno ${errno}`);
    this.errno = errno;
  }
}

/** What a call returned. @throws SystemCallError when that was -1; errno is read in the same turn, before anything else runs. */
function check(call: string, result: number | bigint): number {
  if (Number(result) >= 0) return Number(result);
  const location = libc.__errno_location();
  throw new SystemCallError(call, location === null ? 0 : read.i32(location, 0));
}

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
  if (libc.getsockopt(fd, SOL_SOCKET, SO_PEERCRED, ptr(credentials), ptr(length)) !== 0) return null;
  const [pid = -1, uid = -1, gid = -1] = credentials;
  return { pid, uid, gid };
}

/** sockaddr_un; `@` as the first character stands for the abstract namespace. Null for a name that doesn't fit. */
function unixAddress(path: string): Uint8Array | null {
  const name = Buffer.from(path.startsWith("@") ? `\0${path.slice(1)}` : path);
  if (name.length === 0 || name.length > SOCKET_PATH_LIMIT_BYTES) return null;
  // A path ends with a zero; an abstract name ends where the address does.
  const address = new Uint8Array(2 + name.length + (name[0] === 0 ? 0 : 1));
  new DataView(address.buffer).setUint16(0, AF_UNIX, true);
  address.set(name, 2);
  return address;
}

/** sockaddr_in of a dotted IPv4 address. */
function ipv4Address(ip: string, port: number): Uint8Array {
  const address = new Uint8Array(16);
  const view = new DataView(address.buffer);
  view.setUint16(0, AF_INET, true);
  view.setUint16(2, port);
  address.set(ip.split(".").map(Number), 4);
  return address;
}

/** A UDP socket at an address that nobody else can have or share. */
export interface GuardedSocket {
  /** Gets the datagrams. */
  readonly fd: number;
  /** At the same address without SO_REUSEADDR, so that nothing else can be bound there; connected elsewhere, so it gets nothing. */
  readonly guard: number;
}

/**
 * Two sockets at one address, because the runtime sets SO_REUSEADDR on what it reads from, with which any user could share
 * it: the guard stays without. Non-blocking; whoever calls closes them.
 * @throws SystemCallError EADDRINUSE when anything is there
 */
export function bindGuarded(ip: string, port: number): GuardedSocket {
  const guard = check("socket", libc.socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  let fd = -1;
  try {
    const address = ipv4Address(ip, port);
    check("bind", libc.bind(guard, ptr(address), address.length));
    // Port 0 has become one of the kernel's choice.
    check("getsockname", libc.getsockname(guard, ptr(address), ptr(new Uint32Array([address.length]))));
    fd = check("socket", libc.socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
    for (const one of [guard, fd]) setReuse(one, true);
    check("bind", libc.bind(fd, ptr(address), address.length));
    setReuse(guard, false);
    const discard = ipv4Address(ip, DISCARD_PORT);
    check("connect", libc.connect(guard, ptr(discard), discard.length));
    return { fd, guard };
  } catch (thrown) {
    libc.close(guard);
    if (fd !== -1) libc.close(fd);
    throw thrown;
  }
}

function setReuse(fd: number, on: boolean): void {
  const value = new Int32Array([on ? 1 : 0]);
  check("setsockopt", libc.setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, ptr(value), value.byteLength));
}

/** Sends one datagram to a unix socket, with a copy of a descriptor if one is given. True when it went out. */
export function sendDatagram(path: string, text: string, descriptor: number | null = null): boolean {
  const address = unixAddress(path);
  if (address === null) return false;
  const fd = libc.socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  if (fd < 0) return false;
  try {
    const bytes = Buffer.from(text);
    return Number(sendMessage(fd, bytes, descriptor, address)) === bytes.length;
  } finally {
    libc.close(fd);
  }
}

/**
 * A blocking stream socket: each of its calls, the connection included, gives up after `timeoutMs`. For a process that
 * does nothing else.
 */
export class BlockingSocket implements Disposable {
  readonly fd: number;

  private constructor(family: number, address: Uint8Array, timeoutMs: number) {
    this.fd = check("socket", libc.socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0));
    try {
      // struct timeval
      const timeout = new BigInt64Array([BigInt(Math.floor(timeoutMs / 1000)), BigInt((timeoutMs % 1000) * 1000)]);
      for (const option of [SO_RCVTIMEO, SO_SNDTIMEO]) {
        check("setsockopt", libc.setsockopt(this.fd, SOL_SOCKET, option, ptr(timeout), timeout.byteLength));
      }
      check("connect", libc.connect(this.fd, ptr(address), address.length));
    } catch (thrown) {
      libc.close(this.fd);
      throw thrown;
    }
  }

  /** @throws SystemCallError */
  static toUnix(path: string, timeoutMs: number): BlockingSocket {
    const address = unixAddress(path);
    if (address === null) throw new SystemCallError("connect", 36);
    return new BlockingSocket(AF_UNIX, address, timeoutMs);
  }

  /** To a dotted IPv4 address. @throws SystemCallError */
  static toTcp(ip: string, port: number, timeoutMs: number): BlockingSocket {
    return new BlockingSocket(AF_INET, ipv4Address(ip, port), timeoutMs);
  }

  write(text: string): void {
    const bytes = Buffer.from(text);
    check("send", libc.send(this.fd, ptr(bytes), BigInt(bytes.length), MSG_NOSIGNAL));
  }

  /** Bytes up to a newline, which is taken too, and not one more; null when the end or `limit` comes first. */
  readLine(limit: number): string | null {
    const byte = new Uint8Array(1);
    let line = "";
    while (line.length < limit) {
      if (check("recv", libc.recv(this.fd, ptr(byte), 1n, 0)) === 0) return null;
      if (byte[0] === 0x0a) return line;
      line += String.fromCharCode(byte[0] ?? 0);
    }
    return null;
  }

  /** Takes the timeouts off: whoever gets the descriptor has its own. */
  clearTimeouts(): void {
    const none = new BigInt64Array(2);
    for (const option of [SO_RCVTIMEO, SO_SNDTIMEO]) {
      check("setsockopt", libc.setsockopt(this.fd, SOL_SOCKET, option, ptr(none), none.byteLength));
    }
  }

  [Symbol.dispose](): void {
    libc.close(this.fd);
  }
}

/** Passes a descriptor to the process at the other end of the unix socket `via`. @throws SystemCallError */
export function passDescriptor(via: number, fd: number): void {
  check("sendmsg", sendMessage(via, new Uint8Array(1), fd, null));
}

/** sendmsg(2): bytes, perhaps with a descriptor, to an address or to the socket's peer. What it returned. */
function sendMessage(
  via: number,
  payload: Uint8Array,
  descriptor: number | null,
  address: Uint8Array | null,
): number | bigint {
  const iov = new BigUint64Array([BigInt(ptr(payload)), BigInt(payload.length)]);
  // struct cmsghdr, 64-bit: length, level, type, then the descriptor; 20 bytes, padded to 24.
  const control = new ArrayBuffer(24);
  const cmsg = new DataView(control);
  cmsg.setBigUint64(0, 20n, true);
  cmsg.setInt32(8, SOL_SOCKET, true);
  cmsg.setInt32(12, SCM_RIGHTS, true);
  cmsg.setInt32(16, descriptor ?? -1, true);
  const controlBytes = new Uint8Array(control);
  // struct msghdr: name, its length, vectors, their count, control, its length, flags.
  const header = new BigUint64Array([
    ...(address === null ? [0n, 0n] : [BigInt(ptr(address)), BigInt(address.length)]),
    ...[BigInt(ptr(iov)), 1n],
    ...(descriptor === null ? [0n, 0n] : [BigInt(ptr(controlBytes)), 24n]),
    0n,
  ]);
  const sent = libc.sendmsg(via, ptr(header), MSG_NOSIGNAL);
  // The addresses above are numbers to the collector; this keeps what they point to.
  void [payload, iov, controlBytes, address];
  return sent;
}
