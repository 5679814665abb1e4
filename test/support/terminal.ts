/** A program in a terminal, and somebody who types and reads there. */

const APPEARS_WITHIN_MS = 15_000;

export class TestTerminal implements AsyncDisposable {
  readonly #child: Bun.Subprocess;
  /** What appeared and was not waited for yet. */
  #text = "";
  #wake = (): void => {};

  constructor(argv: readonly string[], env: Readonly<Record<string, string>>, size = { rows: 31, columns: 101 }) {
    this.#child = Bun.spawn([...argv], {
      env: { ...env, TERM: "vt100", PS1: "$ " },
      terminal: {
        rows: size.rows,
        cols: size.columns,
        data: (_, bytes) => {
          this.#text += Buffer.from(bytes).toString("latin1");
          this.#wake();
        },
      },
    });
  }

  get #terminal(): Bun.Terminal {
    const { terminal } = this.#child;
    if (terminal === undefined) throw new Error("there is no terminal");
    return terminal;
  }

  get pid(): number {
    return this.#child.pid;
  }

  type(text: string): void {
    this.#terminal.write(text);
  }

  resize(rows: number, columns: number): void {
    this.#terminal.resize(columns, rows);
  }

  /** Waits until this appears after everything that was waited for before; returns the match. */
  async appears(pattern: RegExp): Promise<RegExpExecArray> {
    const until = performance.now() + APPEARS_WITHIN_MS;
    for (;;) {
      const found = pattern.exec(this.#text);
      if (found !== null) {
        this.#text = this.#text.slice(found.index + found[0].length);
        return found;
      }
      const leftMs = until - performance.now();
      if (leftMs <= 0) throw new Error(`${pattern} did not appear: ${JSON.stringify(this.#text)}`);
      await new Promise<void>((resolve) => {
        const timer = setTimeout(resolve, leftMs);
        this.#wake = () => {
          clearTimeout(timer);
          resolve();
        };
      });
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#child.kill("SIGKILL");
    await this.#child.exited;
    this.#terminal.close();
  }
}
