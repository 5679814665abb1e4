/** One build per name at a time: a second asker waits and shares the result. */

import type { Progress } from "../../shared/contract/owner-api.ts";
import type { ImageRecord } from "../../shared/contract/schemas.ts";
import type { ImageRun } from "./sources/source.ts";

/** A build under way and those who wait for it. */
interface Build {
  readonly result: Promise<ImageRecord>;
  readonly abort: AbortController;
  readonly listeners: Set<ImageRun>;
}

export class SharedBuilds {
  readonly #build: (name: string, run: ImageRun) => Promise<ImageRecord>;
  readonly #running = new Map<string, Build>();

  constructor(build: (name: string, run: ImageRun) => Promise<ImageRecord>) {
    this.#build = build;
  }

  has(name: string): boolean {
    return this.#running.has(name);
  }

  /** Builds, or waits for the build under way. It is cancelled when nobody waits any more. */
  async run(name: string, run: ImageRun): Promise<ImageRecord> {
    const shared = await this.#join(name, run);
    try {
      return await abortable(shared.result, run.signal);
    } finally {
      shared.listeners.delete(run);
      if (shared.listeners.size === 0 && this.#running.get(name) === shared) {
        shared.abort.abort(run.signal.reason);
        // The staging directory is gone when the build has ended; a cancel that returned earlier would leak it for a moment.
        await shared.result.catch(() => undefined);
      }
    }
  }

  /** Joins the build of a name, or starts it. The asker counts as waiting from here on. */
  async #join(name: string, run: ImageRun): Promise<Build> {
    for (let running = this.#running.get(name); running !== undefined; running = this.#running.get(name)) {
      if (!running.abort.signal.aborted) {
        running.listeners.add(run);
        return running;
      }
      // Everybody gave up on that one: it is on its way out, and this asker needs one of its own.
      await running.result.catch(() => undefined);
    }
    const abort = new AbortController();
    const listeners = new Set<ImageRun>([run]);
    const progress = (p: Progress): void => {
      for (const listener of listeners) listener.progress(p);
    };
    const result = this.#build(name, { signal: abort.signal, progress }).finally(() => this.#running.delete(name));
    // Each asker awaits its own race; when all of them were cancelled nobody is left to hear of the end.
    result.catch(() => undefined);
    const started: Build = { result, abort, listeners };
    this.#running.set(name, started);
    return started;
  }
}

/** The promise's result, or the abort, whichever comes first. */
async function abortable<T>(promise: Promise<T>, signal: AbortSignal): Promise<T> {
  signal.throwIfAborted();
  const { promise: aborted, reject } = Promise.withResolvers<never>();
  const onAbort = (): void => reject(signal.reason);
  signal.addEventListener("abort", onAbort, { once: true });
  try {
    return await Promise.race([promise, aborted]);
  } finally {
    signal.removeEventListener("abort", onAbort);
  }
}
