/**
 * The libc that the helper calls, and how a failed call becomes an error that names the call and its operands.
 * errno is read in the statement that makes the call: anything in between (a collection, another call) may change it.
 */

import { dlopen, FFIType, type Pointer, ptr, read } from "bun:ffi";
import { constants } from "node:os";

const { i32, u32, u64, i64_fast, ptr: pointer } = FFIType;

const library = dlopen("libc.so.6", {
  __errno_location: { args: [], returns: pointer },
  // Variadic, declared with the arguments the kernel takes; correct on x86-64 and arm64 Linux, whose variadic
  // integer arguments go where fixed ones do.
  syscall: { args: [i64_fast, i64_fast, i64_fast, i64_fast, i64_fast], returns: i64_fast },
  ioctl: { args: [i32, u64, i64_fast], returns: i32 },
  fchownat: { args: [i32, pointer, u32, u32, i32], returns: i32 },
  mknodat: { args: [i32, pointer, u32, u64], returns: i32 },
  mkdirat: { args: [i32, pointer, u32], returns: i32 },
  symlinkat: { args: [pointer, i32, pointer], returns: i32 },
  unlinkat: { args: [i32, pointer, i32], returns: i32 },
  getxattr: { args: [pointer, pointer, pointer, u64], returns: i64_fast },
  setxattr: { args: [pointer, pointer, pointer, u64, i32], returns: i32 },
  renameat2: { args: [i32, pointer, i32, pointer, u32], returns: i32 },
  getdents64: { args: [i32, pointer, u64], returns: i64_fast },
  lseek: { args: [i32, i64_fast, i32], returns: i64_fast },
  mount: { args: [pointer, pointer, pointer, u64, pointer], returns: i32 },
  umount2: { args: [pointer, i32], returns: i32 },
  setrlimit: { args: [i32, pointer], returns: i32 },
  getsockopt: { args: [i32, i32, i32, pointer, pointer], returns: i32 },
  socket: { args: [i32, i32, i32], returns: i32 },
  sendto: { args: [i32, pointer, u64, i32, pointer, u32], returns: i64_fast },
  poll: { args: [pointer, u64, i32], returns: i32 },
});

/** The calls themselves. Only the modules of this folder use them. */
export const libc = library.symbols;

const ERRNO_NAMES: ReadonlyMap<number, string> = new Map(
  Object.entries(constants.errno).map(([name, number]) => [number, name]),
);

/** errno of the call that was made last on this thread. To be read in the same statement as the call. */
export function errno(): number {
  return read.i32(libc.__errno_location() as Pointer, 0);
}

/** A failed system call: `code` as Node names it, the call and its operands in the message. */
export class SystemCallError extends Error {
  override readonly name = "SystemCallError";
  readonly code: string;
  readonly syscall: string;

  constructor(syscall: string, operands: string, number: number) {
    const code = ERRNO_NAMES.get(number) ?? `errno ${number}`;
    super(`${syscall}(${operands}): ${code}`);
    this.code = code;
    this.syscall = syscall;
  }
}

/**
 * The result of a call, or its error. Written `check("mkdirat", name, libc.mkdirat(…), errno())`: arguments are
 * evaluated in order, so errno is that call's.
 * @throws SystemCallError when the result is negative.
 */
export function check(syscall: string, operands: string, result: number | bigint, number: number): number {
  const value = Number(result);
  if (value < 0) throw new SystemCallError(syscall, operands, number);
  return value;
}

/** A NUL-terminated string for a call; bytes stay what they are. @throws Error when it holds a NUL, which would cut it short unseen. */
export function cString(text: string | Uint8Array): Uint8Array {
  const bytes = Buffer.from(typeof text === "string" ? `${text}\0` : [...text, 0]);
  if (bytes.indexOf(0) !== bytes.length - 1) throw new Error("a NUL in a string for a system call");
  return bytes;
}

/** The address of a buffer, as the integer that `syscall` and `ioctl` take. The buffer must outlive the call. */
export function addressOf(buffer: Uint8Array): number {
  return ptr(buffer);
}

export { ptr };
