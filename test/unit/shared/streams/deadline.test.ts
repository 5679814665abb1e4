import { expect, test } from "bun:test";
import { countDown, limitWait, sleep } from "../../../../src/shared/streams/deadline.ts";
import type { BangerError } from "../../../../src/shared/errors.ts";

interface Waited {
  readonly limit: Disposable;
  readonly calls: string[];
  readonly called: Promise<void>;
}

function wait(timeoutMs: number, signal?: AbortSignal): Waited {
  const calls: string[] = [];
  const { promise: called, resolve } = Promise.withResolvers<void>();
  const note = (what: string): void => {
    calls.push(what);
    resolve();
  };
  const abort = (why: BangerError): void => note(why.code);
  return { limit: limitWait({ timeoutMs, signal }, () => note("late"), abort), calls, called };
}

test("a limit calls once: when the time is over, or when the signal aborts", async () => {
  const aborter = new AbortController();
  const late = wait(1, aborter.signal);
  await late.called;
  aborter.abort();
  expect(late.calls).toEqual(["late"]);

  const other = new AbortController();
  const aborted = wait(5, other.signal);
  other.abort();
  expect(aborted.calls).toEqual(["CANCELLED"]);
  // A timer that is set later fires later.
  await sleep(10);
  expect(aborted.calls).toEqual(["CANCELLED"]);
  expect(wait(1000, AbortSignal.abort()).calls).toEqual(["CANCELLED"]);
});

test("a limit that was disposed of calls nothing", async () => {
  const aborter = new AbortController();
  const waited = wait(5, aborter.signal);
  waited.limit[Symbol.dispose]();
  aborter.abort();
  await sleep(10);
  expect(waited.calls).toEqual([]);
});

test("a limit of months is not over at once", async () => {
  const waited = wait(2 ** 40);
  await sleep(5);
  expect(waited.calls).toEqual([]);
  waited.limit[Symbol.dispose]();
});

test("a sleep ends early with its signal", async () => {
  const aborter = new AbortController();
  const sleeping = sleep(100_000, aborter.signal);
  aborter.abort();
  await expect(sleeping).rejects.toMatchObject({ code: "CANCELLED" });
});

test("what is left of a time is never less than a millisecond", async () => {
  const left = countDown(5);
  expect(left()).toBeGreaterThanOrEqual(1);
  expect(left()).toBeLessThanOrEqual(5);
  await sleep(10);
  expect(left()).toBe(1);
});
