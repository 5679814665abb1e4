/** CPU use of processes in percent of one CPU, from their counters (proc(5)). Pure: the clock is passed in. */

/** The kernel counts CPU time in hundredths of a second, so a shorter interval says nothing. */
const SHORTEST_INTERVAL_MS = 1000;
const TICK_MS = 10;

export interface CpuReading {
  readonly pid: number;
  /** When the process started, in ticks since the host's boot. */
  readonly startTicks: number;
  /** CPU time used since then, in ticks. */
  readonly cpuTicks: number;
  /** When this was read, in milliseconds since the host's boot. */
  readonly atMs: number;
}

type Point = Pick<CpuReading, "cpuTicks" | "atMs">;

/** Remembers each VM's process. */
export class CpuMeter {
  readonly #known = new Map<string, { readonly process: string; readonly before: Point; readonly last: Point }>();

  /** Percent since the sample before, which is at least a second old; at first since the process started. */
  percent(vm: string, reading: CpuReading): number {
    const process = `${reading.pid} ${reading.startTicks}`;
    const start: Point = { cpuTicks: 0, atMs: reading.startTicks * TICK_MS };
    const known = this.#known.get(vm);
    const { before, last } = known?.process === process ? known : { before: start, last: start };
    const isOld = reading.atMs - last.atMs >= SHORTEST_INTERVAL_MS;
    const base = isOld ? last : before;
    this.#known.set(vm, { process, before: base, last: isOld ? reading : last });
    const usedMs = (reading.cpuTicks - base.cpuTicks) * TICK_MS;
    return (Math.max(0, usedMs) / Math.max(TICK_MS, reading.atMs - base.atMs)) * 100;
  }

  forget(vm: string): void {
    this.#known.delete(vm);
  }
}
