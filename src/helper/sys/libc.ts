/**
 * The helper's calls into libc, with errors that name the call and its operands. errno is read in the same statement as
 * the call: anything in between (a garbage collection, another call) may change it.
 */

import { dlopen, FFIType, type Pointer, ptr, read } from "bun:ffi";
import { constants } from "node:os";

const { i32, u32, u64, i64_fast, ptr: pointer } = FFIType;

const library = dlopen("libc.so.6", {
  __errno_location: { args: [], returns: pointer },
  // Variadic, but declared with the arguments the kernel takes. On x86-64 and arm64 Linux, variadic integer arguments
  // go where fixed ones do.
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

/** The calls themselves. Only modules in this folder use them. */
export const libc = library.symbols;

const ERRNO_NAMES: ReadonlyMap<number, string> = new Map(
  Object.entries(constants.errno).map(([name, number]) => [number, name]),
);

/** The errno of this thread's last call. Read it in the same statement as the call. */
export function errno(): number {
  return read.i32(libc.__errno_location() as Pointer, 0);
}

/** A failed system call: `code` as Node names it; the message has the call and its operands. */
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
 * Returns a call's result or throws its error. Written `check("mkdirat", name, libc.mkdirat(…), errno())`: arguments
 * are evaluated in order, so errno belongs to that call.
 * @throws SystemCallError if the result is negative
 */
export function check(syscall: string, operands: string, result: number | bigint, number: number): number {
  const value = Number(result);
  if (value < 0) throw new SystemCallError(syscall, operands, number);
  return value;
}

/**
 * A NUL-terminated string for a call; bytes pass unchanged. @throws Error if it contains a NUL, which would truncate it
 */
export function cString(text: string | Uint8Array): Uint8Array {
  const bytes = Buffer.from(typeof text === "string" ? `${text}\0` : [...text, 0]);
  if (bytes.indexOf(0) !== bytes.length - 1) throw new Error("a string for a system call contains a NUL");
  return bytes;
}

/** The address of a buffer, as the integer that `syscall` and `ioctl` take. The buffer must outlive the call. */
export function addressOf(buffer: Uint8Array): number {
  return ptr(buffer);
}

export { ptr };
