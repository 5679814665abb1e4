/** Waiting that always ends: by what is waited for, by a deadline, or by a signal. */

import { BangerError } from "../errors.ts";

export interface Patience {
  readonly timeoutMs: number;
  readonly signal?: AbortSignal | undefined;
}

/** A timer of more fires at once. */
export const LONGEST_TIMER_MS = 2 ** 31 - 1;

const cancelled = (signal: AbortSignal | undefined): BangerError =>
  new BangerError("CANCELLED", "cancelled", { cause: signal?.reason });

/**
 * Calls `late` after the time, or `abort` with CANCELLED when the signal aborts, whichever is first. Dispose of it when what was waited
 * for came.
 */
export function limitWait(
  { timeoutMs, signal }: Patience,
  late: () => void,
  abort: (why: BangerError) => void,
): Disposable {
  const onAbort = (): void => {
    stop();
    abort(cancelled(signal));
  };
  const timer = setTimeout(
    () => {
      stop();
      late();
    },
    Math.min(timeoutMs, LONGEST_TIMER_MS),
  );
  const stop = (): void => {
    clearTimeout(timer);
    signal?.removeEventListener("abort", onAbort);
  };
  if (signal?.aborted === true) onAbort();
  else signal?.addEventListener("abort", onAbort, { once: true });
  return { [Symbol.dispose]: stop };
}

/** @throws BangerError CANCELLED */
export async function sleep(ms: number, signal?: AbortSignal): Promise<void> {
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  using _limit = limitWait({ timeoutMs: ms, signal }, resolve, reject);
  await promise;
}

/** How many of so many milliseconds are left, and at least 1. */
export function countDown(timeoutMs: number): () => number {
  const deadline = performance.now() + timeoutMs;
  return () => Math.max(1, Math.ceil(deadline - performance.now()));
}
