/**
 * The terminal that banger runs in, while a command in a guest has a terminal of its own: every key goes there as it is, and every byte of
 * output comes as it is (raw mode, termios(3) cfmakeraw). Bun's own raw mode keeps changing line ends of the output.
 */

import { dlopen, FFIType, ptr } from "bun:ffi";
import { isatty } from "node:tty";

const libc = dlopen("libc.so.6", {
  tcgetattr: { args: [FFIType.i32, FFIType.ptr], returns: FFIType.i32 },
  tcsetattr: { args: [FFIType.i32, FFIType.i32, FFIType.ptr], returns: FFIType.i32 },
  cfmakeraw: { args: [FFIType.ptr], returns: FFIType.void },
  ioctl: { args: [FFIType.i32, FFIType.u64, FFIType.ptr], returns: FFIType.i32 },
}).symbols;

/** More than struct termios needs (60 bytes). */
const TERMIOS_BYTES = 128;
/** Once what was written is out (tcsetattr(3)). */
const TCSADRAIN = 1;
/** ioctl_tty(2); struct winsize: rows, columns, and two more, 16 bits each. */
const TIOCGWINSZ = 0x5413;
const WINSIZE_BYTES = 8;

export interface TerminalSize {
  readonly rows: number;
  readonly columns: number;
}

/** A terminal's size where none is known. */
const USUAL: TerminalSize = { rows: 24, columns: 80 };

/** Size of the terminal that this process reads from or writes to. */
export function readSize(): TerminalSize {
  const size = Buffer.alloc(WINSIZE_BYTES);
  for (const fd of [0, 1, 2]) {
    if (libc.ioctl(fd, TIOCGWINSZ, ptr(size)) !== 0) continue;
    const [rows, columns] = [size.readUInt16LE(0), size.readUInt16LE(2)];
    if (rows > 0 && columns > 0) return { rows, columns };
  }
  return USUAL;
}

/** Raw mode of the terminal on stdin, from {@link enter} until {@link leave} or the process's end; does nothing where there is none. */
export class RawMode implements Disposable {
  readonly #isTerminal = isatty(0);
  #before: Buffer | null = null;
  readonly #onExit = (): void => this.leave();

  /** In the background the kernel stops the process here (SIGTTOU), as it does with any program. */
  enter(): void {
    const before = Buffer.alloc(TERMIOS_BYTES);
    if (!this.#isTerminal || this.#before !== null || libc.tcgetattr(0, ptr(before)) !== 0) return;
    const raw = Buffer.from(before);
    libc.cfmakeraw(ptr(raw));
    this.#before = before;
    process.on("exit", this.#onExit);
    libc.tcsetattr(0, TCSADRAIN, ptr(raw));
  }

  /** Gives the terminal back as it was. */
  leave(): void {
    if (this.#before === null) return;
    process.off("exit", this.#onExit);
    libc.tcsetattr(0, TCSADRAIN, ptr(this.#before));
    this.#before = null;
  }

  [Symbol.dispose](): void {
    this.leave();
  }
}
