/** Signals a person or a supervisor sends to the CLI. */

import { constants } from "node:os";
import { BangerError } from "../../shared/errors.ts";

const CAUGHT = ["SIGINT", "SIGTERM", "SIGHUP"] as const;
export type Interrupt = (typeof CAUGHT)[number];

/**
 * The first signal aborts {@link signal}, so that work under way can be taken back; a second one ends the
 * process as if nobody had caught it. {@link take} gives the signals to somebody else for a while.
 */
export class Interrupts {
  readonly #abort = new AbortController();
  readonly #handlers: ((signal: Interrupt) => void)[] = [];
  readonly #listeners = new Map<Interrupt, () => void>();
  #received: Interrupt | null = null;

  get signal(): AbortSignal {
    return this.#abort.signal;
  }

  /** The signal that aborted, if one did. */
  get received(): Interrupt | null {
    return this.#received;
  }

  /** 128 plus the signal's number, as a shell reports it; null when none came. */
  get exitStatus(): number | null {
    return this.#received === null ? null : 128 + constants.signals[this.#received];
  }

  listen(): void {
    for (const name of CAUGHT) {
      const listener = (): void => this.receive(name);
      this.#listeners.set(name, listener);
      process.on(name, listener);
    }
  }

  /** What a signal does; also for tests. */
  receive(name: Interrupt): void {
    const handler = this.#handlers.at(-1);
    if (handler !== undefined) {
      handler(name);
    } else if (this.#received === null) {
      this.#received = name;
      this.#abort.abort(new BangerError("CANCELLED", "interrupted"));
    } else {
      this.release();
      process.kill(process.pid, name);
    }
  }

  /** Until disposed, signals go to `handler` only. */
  take(handler: (signal: Interrupt) => void): Disposable {
    this.#handlers.push(handler);
    return {
      [Symbol.dispose]: () => {
        this.#handlers.splice(this.#handlers.indexOf(handler), 1);
      },
    };
  }

  /** Waits so long, or until an interrupt. */
  async sleep(ms: number): Promise<void> {
    await new Promise<void>((resolve) => {
      const done = (): void => {
        clearTimeout(timer);
        this.signal.removeEventListener("abort", done);
        resolve();
      };
      const timer = setTimeout(done, ms);
      this.signal.addEventListener("abort", done);
      if (this.signal.aborted) done();
    });
  }

  release(): void {
    for (const [name, listener] of this.#listeners) process.off(name, listener);
    this.#listeners.clear();
  }
}
