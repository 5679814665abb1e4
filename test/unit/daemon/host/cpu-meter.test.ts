import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { CpuMeter } from "../../../../src/daemon/host/cpu-meter.ts";

const reading = (cpuTicks: number, atMs: number, process = { pid: 7, startTicks: 1000 }) => ({
  ...process,
  cpuTicks,
  atMs,
});

describe("percent of one CPU", () => {
  test("the first sample covers the process's whole life: a boot of 20 s on two CPUs, asked right after", () => {
    expect(new CpuMeter().percent("box", reading(4000, 30_000))).toBe(200);
  });

  test("the next ones cover the time since the one before", () => {
    const meter = new CpuMeter();
    meter.percent("box", reading(4000, 30_000));
    expect(meter.percent("box", reading(4100, 32_000))).toBe(50);
    expect(meter.percent("box", reading(4100, 35_000))).toBe(0);
  });

  test("two at once: the second is no wild guess from one tick", () => {
    const meter = new CpuMeter();
    meter.percent("box", reading(1000, 30_000));
    meter.percent("box", reading(1010, 31_000));
    expect(meter.percent("box", reading(1011, 31_001))).toBeCloseTo(11, 0);
  });

  test("a VM that was started again has a new process, and begins anew", () => {
    const meter = new CpuMeter();
    meter.percent("box", reading(4000, 30_000));
    expect(meter.percent("box", reading(100, 42_000, { pid: 8, startTicks: 4000 }))).toBe(50);
    meter.forget("box");
    expect(meter.percent("box", reading(100, 42_000, { pid: 8, startTicks: 4000 }))).toBe(50);
  });

  test("never more than the CPUs there are, however it is asked", () => {
    const steps = fc.array(
      fc.record({ ms: fc.integer({ min: 10, max: 5000 }), share: fc.double({ min: 0, max: 1, noNaN: true }) }),
    );
    fc.assert(
      fc.property(steps, (asked) => {
        const meter = new CpuMeter();
        let [ticks, atMs] = [0, 10_000];
        for (const { ms, share } of asked) {
          atMs += ms;
          // Two CPUs.
          ticks += Math.floor((ms / 10) * 2 * share);
          const percent = meter.percent("box", reading(ticks, atMs));
          if (percent < 0 || percent > 200.001) return false;
        }
        return true;
      }),
    );
  });
});
