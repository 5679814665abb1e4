/** Notices that this host's clock jumped: the host slept, or somebody set it. */

const JUMP_MS = 1000;

export interface Clocks {
  /** Unix time. */
  wallMs(): number;
  /** Stands still while the host sleeps, and is set by nobody. Source: clock_gettime(2), CLOCK_MONOTONIC. */
  monotonicMs(): number;
}

const THIS_HOST: Clocks = { wallMs: () => Date.now(), monotonicMs: () => performance.now() };

export class ClockJumps {
  readonly #clocks: Clocks;
  #offsetMs: number;

  constructor(clocks: Clocks = THIS_HOST) {
    this.#clocks = clocks;
    this.#offsetMs = this.#readOffset();
  }

  #readOffset(): number {
    return this.#clocks.wallMs() - this.#clocks.monotonicMs();
  }

  /** True once for each jump of more than a second since the last look. */
  look(): boolean {
    const before = this.#offsetMs;
    this.#offsetMs = this.#readOffset();
    return Math.abs(this.#offsetMs - before) > JUMP_MS;
  }
}
