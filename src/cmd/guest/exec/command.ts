/** What exec and run ask of a guest, and what became of it. */

import type { RawArgument } from "../../line/raw-arguments.ts";

export interface GuestCommand {
  /** As the kernel gave them; empty only for a login shell. */
  readonly argv: readonly RawArgument[];
  /** Null: the home of `user`. */
  readonly workDir: string | null;
  readonly env: readonly (readonly [name: string, value: string])[];
  /** A name or a number; null is root. */
  readonly user: string | null;
  /** Whether the command gets a terminal. */
  readonly tty: boolean;
  /** Whether the user's login shell runs the command. */
  readonly login: boolean;
  /** Whether the command's input is empty instead of this process's. */
  readonly noStdin: boolean;
  /** Whether the end of the output is waited for, even if the process has ended. */
  readonly waitOutput: boolean;
  readonly timeoutMs: number | null;
}

/** A command as root with nothing special. */
export function simpleCommand(argv: readonly RawArgument[], workDir: string, tty: boolean): GuestCommand {
  return { argv, workDir, tty, env: [], user: null, login: false, noStdin: false, waitOutput: false, timeoutMs: null };
}

/** Where the command's output goes. While a promise is pending, no more is taken from the guest. */
export interface OutputSinks {
  stdout(bytes: Uint8Array): Promise<void>;
  stderr(bytes: Uint8Array): Promise<void>;
}

/** How a command ended. */
export interface Ending {
  /** As a shell reports it: 128 and the signal if a signal ended it. */
  readonly status: number;
  /** What ended it; null when it ended by itself, or when only the status is known. */
  readonly signal: string | null;
  readonly timedOut: boolean;
  readonly wallMs: number;
  /** Of everything that it started and waited for. Null where only the agent could tell, and ssh was the way. */
  readonly userMs: number | null;
  readonly systemMs: number | null;
  readonly peakMemoryBytes: number | null;
}

/** After the polite signal of a timeout. */
export const KILL_AFTER_MS = 3000;
/** A guest in which the signals of a timeout end nothing is left this long after it. */
export const LEAVE_AFTER_MS = 15_000;
/** After so many interrupts, banger leaves, even if the command stays. */
export const PATIENCE = 3;
