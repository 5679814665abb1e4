import { expect, test } from "bun:test";
import { ClockJumps } from "../../../../src/daemon/host/clock-jumps.ts";

function fakeClocks() {
  const now = { wall: 1_700_000_000_000, monotonic: 5000 };
  const jumps = new ClockJumps({ wallMs: () => now.wall, monotonicMs: () => now.monotonic });
  const pass = (wallMs: number, monotonicMs: number): boolean => {
    now.wall += wallMs;
    now.monotonic += monotonicMs;
    return jumps.look();
  };
  return pass;
}

test("time that passes is no jump, and neither is a clock that is slewed", () => {
  const pass = fakeClocks();
  expect([pass(0, 0), pass(10_000, 10_000), pass(3_600_000, 3_600_000), pass(10_005, 10_000)]).toEqual([
    false,
    false,
    false,
    false,
  ]);
});

test("sleep, and a clock that is set either way, are each told once", () => {
  const pass = fakeClocks();
  expect([pass(60_000, 10_000), pass(10_000, 10_000)]).toEqual([true, false]);
  expect([pass(7000, 10_000), pass(10_000, 10_000)]).toEqual([true, false]);
});

test("this host's own clocks don't jump", () => {
  expect(new ClockJumps().look()).toBe(false);
});
