/** The only writer to stdout and stderr of the CLI. stdout carries the answer; everything else goes to stderr. */

import { writeSync } from "node:fs";
import { isatty } from "node:tty";
import type { Progress } from "../shared/contract.ts";
import type { BangerError } from "../shared/errors.ts";
import { isErrno } from "../shared/errors.ts";
import { formatDuration } from "../shared/durations.ts";
import { formatBytes } from "../shared/sizes.ts";

/** Whoever read stdout is gone (`banger ps | head -1`): the command ends quietly. */
export class OutputClosed extends Error {
  override readonly name = "OutputClosed";
}

/** Where the text goes; the process's own descriptors, or a test's. */
export interface Sink {
  readonly isTerminal: boolean;
  /** @throws OutputClosed */
  write(bytes: string | Uint8Array): void;
}

const RETRY_MS = 2;

/** A descriptor, written to completely before the call returns, so that nothing is lost at exit. */
export function descriptorSink(fd: number): Sink {
  return {
    isTerminal: isatty(fd),
    write: (bytes) => {
      let rest: Uint8Array = typeof bytes === "string" ? Buffer.from(bytes) : bytes;
      while (rest.length > 0) {
        try {
          rest = rest.subarray(writeSync(fd, rest));
        } catch (thrown) {
          // A pipe that somebody else made non-blocking, and that is full.
          if (isErrno(thrown, "EAGAIN")) Bun.sleepSync(RETRY_MS);
          else if (isErrno(thrown, "EPIPE") || isErrno(thrown, "EBADF")) throw new OutputClosed();
          else throw thrown;
        }
      }
    },
  };
}

/** Text from a guest or a file must not steer the terminal: control characters become visible. */
export function printable(text: string): string {
  return text.replace(/[\u0000-\u0008\u000b-\u001f\u007f-\u009f]/g, "\u{fffd}");
}

const COLORS = { red: 31, green: 32, yellow: 33, dim: 2, bold: 1 } as const;
type Color = keyof typeof COLORS;

/** Columns as wide as their widest cell, two blanks between, nothing after the last. */
export function formatTable(rows: readonly (readonly string[])[]): string {
  const clean = rows.map((row) => row.map((cell) => printable(cell).replaceAll("\n", " ")));
  const widths: number[] = [];
  for (const row of clean)
    for (const [i, cell] of row.entries()) widths[i] = Math.max(widths[i] ?? 0, Bun.stringWidth(cell));
  return clean
    .map((row) =>
      row
        .map((cell, i) => cell + " ".repeat((widths[i] ?? 0) - Bun.stringWidth(cell)))
        .join("  ")
        .trimEnd(),
    )
    .map((line) => `${line}\n`)
    .join("");
}

/** Shows stages: one live line per stage on a terminal, one plain line per stage elsewhere. */
export interface Stages {
  show(progress: Progress): void;
  /** Leaves the last line as it stands. Call before anything else is written. */
  end(): void;
}

export interface OutputOptions {
  readonly stdout: Sink;
  readonly stderr: Sink;
  readonly env: Readonly<Record<string, string | undefined>>;
}

export class Output {
  readonly stdout: Sink;
  readonly stderr: Sink;
  readonly #isDumb: boolean;
  #hasColor: boolean;
  #isLive = false;

  constructor({ stdout, stderr, env }: OutputOptions) {
    this.stdout = stdout;
    this.stderr = stderr;
    this.#isDumb = env["TERM"] === "dumb";
    this.#hasColor = (env["NO_COLOR"] ?? "") === "" && !this.#isDumb;
  }

  /** For `--no-color`. */
  disableColor(): void {
    this.#hasColor = false;
  }

  paint(color: Color, text: string, sink: Sink = this.stdout): string {
    return this.#hasColor && sink.isTerminal ? `\u001b[${COLORS[color]}m${text}\u001b[0m` : text;
  }

  /** The answer, as it is. @throws OutputClosed */
  data(bytes: string | Uint8Array): void {
    this.#endLive();
    this.stdout.write(bytes);
  }

  line(text: string): void {
    this.data(`${text}\n`);
  }

  /** One JSON document. */
  json(value: unknown): void {
    this.data(`${JSON.stringify(value, null, 2)}\n`);
  }

  /** One object of a stream, on a line of its own. */
  jsonLine(value: unknown): void {
    this.data(`${JSON.stringify(value)}\n`);
  }

  table(head: readonly string[], rows: readonly (readonly string[])[]): void {
    const [first = "", ...lines] = formatTable([head, ...rows]).split(/(?<=\n)/);
    this.data(this.paint("dim", first.trimEnd()) + "\n" + lines.join(""));
  }

  /** A notice for a person, on stderr. */
  note(text: string): void {
    this.#say(`${printable(text)}\n`);
  }

  warn(text: string): void {
    this.#say(`${this.paint("yellow", "warning:", this.stderr)} ${printable(text)}\n`);
  }

  /** `error: <message> [CODE]`, then `try: <command>`, then the operation. With `json`, the document on stdout. */
  error(error: BangerError, json = false, prefix = ""): void {
    if (json) {
      this.json({ error: error.toDocument() });
      return;
    }
    const [first = "", ...more] = printable(error.message).trim().split("\n");
    const said = [`${this.paint("red", "error:", this.stderr)} ${prefix}${first} [${error.code}]`, ...more];
    if (error.hint !== undefined) said.push(`try: ${printable(error.hint)}`);
    if (error.op !== undefined) said.push(`operation: ${printable(error.op)}`);
    this.#say(`${said.join("\n")}\n`);
  }

  /** Without a line end: a question on a terminal. */
  ask(question: string): void {
    this.#say(question);
  }

  #say(text: string): void {
    this.#endLive();
    this.#writeError(text);
  }

  #writeError(text: string): void {
    try {
      this.stderr.write(text);
    } catch (thrown) {
      // Nobody listens to the notices; the work goes on.
      if (!(thrown instanceof OutputClosed)) throw thrown;
    }
  }

  #endLive(): void {
    if (!this.#isLive) return;
    this.#isLive = false;
    this.#writeError("\n");
  }

  stages(): Stages {
    const isLive = this.stderr.isTerminal && !this.#isDumb;
    // Stages may take turns; one that comes back gets no line of its own again.
    const begun = new Map<string, number>();
    return {
      show: (progress) => {
        const stage = `${progress.stage} ${progress.message}`;
        const isNew = !begun.has(stage);
        if (isNew) begun.set(stage, performance.now());
        if (!isLive) {
          if (isNew) this.note(formatProgress(progress, null));
          return;
        }
        if (isNew) this.#endLive();
        this.#isLive = true;
        const text = formatProgress(progress, performance.now() - (begun.get(stage) ?? 0));
        this.#writeError(`\r\u001b[2K${text.slice(0, Math.max(20, (process.stderr.columns || 80) - 1))}`);
      },
      end: () => this.#endLive(),
    };
  }
}

/** `download 12.5 MiB of 80 MiB, 2.1 MiB/s, 32s left`; counts are bytes when they are large. */
export function formatProgress({ message, done, total }: Progress, elapsedMs: number | null): string {
  const text = printable(message).replaceAll("\n", " ");
  if (done === undefined) return text;
  const isBytes = (total ?? done) > 1024 * 1024;
  const count = (value: number): string => (isBytes ? formatBytes(value) : String(value));
  const parts = [`${text} ${count(done)}${total === undefined ? "" : ` of ${count(total)}`}`];
  if (isBytes && elapsedMs !== null && elapsedMs > 500 && done > 0) {
    parts.push(`${formatBytes((done * 1000) / elapsedMs)}/s`);
    if (total !== undefined && total > done) parts.push(`${formatDuration(((total - done) * elapsedMs) / done)} left`);
  }
  return parts.join(", ");
}
