/** One after the other, by key. */

export class Locks {
  readonly #last = new Map<string, Promise<void>>();

  /** Runs `work` when everything with that key that came before has ended; at once for null. */
  async run<T>(key: string | null, work: () => Promise<T>): Promise<T> {
    if (key === null) return await work();
    const before = this.#last.get(key) ?? Promise.resolve();
    const { promise: done, resolve } = Promise.withResolvers<void>();
    this.#last.set(key, done);
    await before;
    try {
      return await work();
    } finally {
      resolve();
      if (this.#last.get(key) === done) this.#last.delete(key);
    }
  }
}
