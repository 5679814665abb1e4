/**
 * Notices that the agent behind a quiet channel is gone. Of a serial port the host sees no end: when the guest's processes are killed, or
 * the guest hangs, the port just stays quiet, as it does during a long command.
 */

export interface SilenceTimes {
  /** A channel that was quiet for so long is looked into, and again each time so much later. */
  readonly quietMs: number;
  /** So many looks in a row without an answer, and the agent is given up. With each look's own patience that is two minutes. */
  readonly looks: number;
}

const TIMES: SilenceTimes = { quietMs: 15_000, looks: 5 };

/**
 * Until it is disposed of, asks the agent in another session when nothing was heard for some time. Calls `gone` once if that stays
 * unanswered; null is no answer and no silence. `heardAt` is the time of the last bytes, as of `performance.now()`.
 */
export function watchSilence(
  heardAt: () => number,
  answers: () => Promise<boolean | null>,
  gone: () => void,
  { quietMs, looks }: SilenceTimes = TIMES,
): Disposable {
  let isOver = false;
  let unanswered = 0;
  let timer: ReturnType<typeof setTimeout>;
  const later = (ms: number): void => {
    timer = setTimeout(() => void look(), ms);
    // The command keeps this process alive, not the look after it.
    timer.unref();
  };
  const look = async (): Promise<void> => {
    const quiet = performance.now() - heardAt();
    if (quiet < quietMs) {
      unanswered = 0;
      return later(quietMs - quiet);
    }
    const answer = await answers();
    if (answer !== null) unanswered = answer ? 0 : unanswered + 1;
    if (isOver) return;
    if (unanswered < looks || performance.now() - heardAt() < quietMs) return later(quietMs);
    gone();
  };
  later(quietMs);
  return {
    [Symbol.dispose]: () => {
      isOver = true;
      clearTimeout(timer);
    },
  };
}
