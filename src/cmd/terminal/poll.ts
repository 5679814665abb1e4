/** Whether anybody can still read what a descriptor would be written to (poll(2)). */

import { dlopen, FFIType, ptr } from "bun:ffi";

const libc = dlopen("libc.so.6", {
  poll: { args: [FFIType.ptr, FFIType.u64, FFIType.i32], returns: FFIType.i32 },
}).symbols;

/** struct pollfd: int fd, short events, short revents. */
const POLLFD_BYTES = 8;
const REVENTS = 6;
/** Told of without being asked for: of a pipe without a reader, of a socket or terminal whose other end is gone. */
const POLLERR = 0x8;
const POLLHUP = 0x10;

/** Doesn't wait. */
export function isReaderGone(fd: number): boolean {
  const pollfd = Buffer.alloc(POLLFD_BYTES);
  pollfd.writeInt32LE(fd, 0);
  return libc.poll(ptr(pollfd), 1, 0) === 1 && (pollfd.readInt16LE(REVENTS) & (POLLERR | POLLHUP)) !== 0;
}
