/** One after the other, by key. */

interface Queue {
  /** Root's, in the order they came: before all others that wait. */
  readonly first: (() => void)[];
  readonly others: (() => void)[];
}

export class Locks {
  /** By key, while something with that key runs. */
  readonly #queues = new Map<string, Queue>();

  /**
   * Runs `work` when everything with that key that came before has ended; at once for null. With `isFirst` it waits for what
   * runs, and not for what else waits: however much the owner has waiting, root's call is the next.
   */
  async run<T>(key: string | null, work: () => Promise<T>, isFirst = false): Promise<T> {
    if (key === null) return await work();
    const queue = this.#queues.get(key);
    if (queue === undefined) {
      this.#queues.set(key, { first: [], others: [] });
    } else {
      const { promise: turn, resolve } = Promise.withResolvers<void>();
      (isFirst ? queue.first : queue.others).push(resolve);
      await turn;
    }
    try {
      return await work();
    } finally {
      this.#next(key);
    }
  }

  #next(key: string): void {
    const queue = this.#queues.get(key);
    const wake = queue?.first.shift() ?? queue?.others.shift();
    if (wake === undefined) this.#queues.delete(key);
    else wake();
  }
}
