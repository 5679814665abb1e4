/**
 * This process's standard input, read for somebody else. The descriptor belongs to whoever started banger as well, and its flags with it: so
 * it never becomes non-blocking. Bun's stream waits with epoll and reads without waiting (preadv2(2) RWF_NOWAIT, recv(2)
 * MSG_DONTWAIT), or opens a terminal a second time. A file is read here, at the offset that is shared, not Bun's own.
 */

import { fstatSync, readFileSync, readSync } from "node:fs";
import { isatty } from "node:tty";

const STDIN = 0;
const CHUNK_BYTES = 65_536;
/** /dev/tty: whatever terminal controls the process (devices.txt). */
const CONTROLLING_TERMINAL = (5 << 8) | 0;

/** What is used of a stream's reader. */
interface Reader {
  read(): Promise<{ readonly done: boolean; readonly value?: Uint8Array | undefined }>;
  cancel(): Promise<void>;
}

/** Read one piece at a time, each only when it is asked for; the kernel and Bun hold some more. */
export class StandardInput implements AsyncDisposable {
  #reader: Reader | null = null;
  #isFile: boolean | null = null;
  #isOver = false;

  /** The next bytes; null at the end, and once disposed of. @throws the system call's error */
  async read(): Promise<Uint8Array | null> {
    if (this.#isFile === null) {
      stopInBackground();
      this.#isFile = fstatSync(STDIN).isFile();
    }
    if (this.#isOver) return null;
    if (this.#isFile) {
      const bytes = Buffer.alloc(CHUNK_BYTES);
      const length = readSync(STDIN, bytes, 0, CHUNK_BYTES, null);
      return length === 0 ? null : bytes.subarray(0, length);
    }
    const reader = (this.#reader ??= Bun.stdin.stream().getReader());
    const { value = null, done } = await reader.read();
    return done ? null : value;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#isOver = true;
    // Of a stream that failed, this fails too: whoever read it has heard.
    await this.#reader?.cancel().catch(() => undefined);
  }
}

/**
 * What the kernel does to a background process at its first read of the terminal (termios(3), SIGTTIN): stops it with its whole job. The
 * kernel itself would do so only once there is something to read, since the read itself doesn't wait; and Bun would wait for that.
 */
function stopInBackground(): void {
  if (!isatty(STDIN)) return;
  // state, parent, process group, session, terminal, the terminal's process group (proc_pid_stat(5)).
  const [, , group, , terminal, foreground] = readFileSync("/proc/self/stat", "latin1")
    .replace(/^.*\) /s, "")
    .split(" ");
  const { rdev } = fstatSync(STDIN);
  if (group !== foreground && (rdev === Number(terminal) || rdev === CONTROLLING_TERMINAL)) process.kill(0, "SIGTTIN");
}
