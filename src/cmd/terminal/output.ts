/**
 * The only writer to stdout and stderr of the CLI. stdout carries the answer; everything else goes to stderr. What is
 * written to a terminal is made printable here, once, for every command; elsewhere the answer's bytes stay as they are.
 */

import { write as writeAsync, writeSync } from "node:fs";
import { isatty } from "node:tty";
import { BangerError, isErrno } from "../../shared/errors.ts";
import { CLOCK, type Clock, isUnicode, type LiveLine, liveStages, plainStages, type Stages } from "./stages.ts";
import { printable, printableJson, printableLine, TerminalFilter } from "./printable.ts";

/** Whoever read stdout is gone (`banger ps | head -1`): the command ends quietly. */
export class OutputClosed extends Error {
  override readonly name = "OutputClosed";
}

/** Where the text goes; the process's own descriptors, or a test's. */
export interface Sink {
  readonly isTerminal: boolean;
  /** @throws OutputClosed, BangerError OUTPUT_FAILED */
  write(bytes: string | Uint8Array): void;
  /**
   * Writes all of it beside other work, however long a slow reader takes: the output of a guest's command, as it is. One call at a time.
   * @throws like {@link write}
   */
  pass?(bytes: Uint8Array): Promise<void>;
  /** Whether nobody can read it any more; for a command that has nothing to write, and so would never know. */
  isClosed?(): Promise<boolean>;
}

/** What an answer can't be written for (open(2), write(2)). */
const WHY: Readonly<Record<string, string>> = {
  ENOSPC: "no space is left on the device",
  EDQUOT: "the disk quota is exceeded",
  EFBIG: "the file would become too large",
  EIO: "the device failed",
};

const RETRY_MS = 2;
const READER_CHECK_MS = 250;

/** @returns what a failed write(2) means to the command */
function failedWrite(thrown: unknown, what: string): OutputClosed | BangerError {
  if (isErrno(thrown, "EPIPE") || isErrno(thrown, "EBADF")) return new OutputClosed();
  const { code = "unknown error", message } = thrown as NodeJS.ErrnoException;
  return new BangerError("OUTPUT_FAILED", `${what} could not be written: ${WHY[code] ?? message}`, { cause: thrown });
}

/** write(2) in a thread: a pipe stays blocking, as everyone else who has it expects. */
async function writeSome(fd: number, bytes: Uint8Array): Promise<number> {
  return await new Promise((resolve, reject) => {
    writeAsync(fd, bytes, 0, bytes.length, null, (error, written) => {
      if (error === null) resolve(written);
      else reject(error);
    });
  });
}

/** A descriptor, written to completely before the call returns, so that nothing is lost at exit. */
export function descriptorSink(fd: number): Sink {
  return {
    isTerminal: isatty(fd),
    isClosed: async () => (await import("./poll.ts")).isReaderGone(fd),
    write: (bytes) => {
      let rest: Uint8Array = typeof bytes === "string" ? Buffer.from(bytes) : bytes;
      while (rest.length > 0) {
        try {
          rest = rest.subarray(writeSync(fd, rest));
        } catch (thrown) {
          // A pipe that somebody else made non-blocking, and that is full.
          if (!isErrno(thrown, "EAGAIN")) throw failedWrite(thrown, "the answer");
          Bun.sleepSync(RETRY_MS);
        }
      }
    },
    pass: async (bytes) => {
      let rest = bytes;
      while (rest.length > 0) {
        try {
          rest = rest.subarray(await writeSome(fd, rest));
        } catch (thrown) {
          if (!isErrno(thrown, "EAGAIN")) throw failedWrite(thrown, "the command's output");
          await Bun.sleep(RETRY_MS);
        }
      }
    },
  };
}

const COLORS = { red: 31, green: 32, yellow: 33, dim: 2, bold: 1 } as const;
type Color = keyof typeof COLORS;

/** Text with a colour of banger's own, which a terminal gets as it is. */
class Painted {
  readonly text: string;

  constructor(text: string) {
    this.text = text;
  }
}
/** What commands print: text from anywhere, and painted pieces between. */
export type Text = string | Painted | readonly (string | Painted)[];

const ERASE_LINE = "\r\u001b[2K";
const CLEAR_SCREEN = new Painted("\u001b[H\u001b[2J");

/** Columns as wide as their widest cell, two blanks between, nothing after the last. */
export function formatTable(rows: readonly (readonly string[])[]): string {
  const clean = rows.map((row) => row.map(printableLine));
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

export interface OutputOptions {
  readonly stdout: Sink;
  readonly stderr: Sink;
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly clock?: Clock;
}

export class Output {
  readonly stdout: Sink;
  readonly stderr: Sink;
  readonly #isDumb: boolean;
  #hasColor: boolean;
  #isLive = false;
  readonly #filter = new TerminalFilter();

  readonly #clock: Clock;
  readonly #isUnicode: boolean;

  constructor({ stdout, stderr, env, clock = CLOCK }: OutputOptions) {
    this.#clock = clock;
    this.#isUnicode = isUnicode(env);
    this.stdout = stdout;
    this.stderr = stderr;
    this.#isDumb = env["TERM"] === "dumb";
    this.#hasColor = (env["NO_COLOR"] ?? "") === "" && !this.#isDumb;
  }

  /** For `--no-color`. */
  disableColor(): void {
    this.#hasColor = false;
  }

  /** Only the colour is banger's; the text may be anybody's. */
  paint(color: Color, text: string, sink: Sink = this.stdout): Painted {
    const clean = printable(text);
    return new Painted(this.#hasColor && sink.isTerminal ? `\u001b[${COLORS[color]}m${clean}\u001b[0m` : clean);
  }

  /** The answer. On a terminal it becomes printable, elsewhere it is as it is. @throws OutputClosed, BangerError */
  data(bytes: string | Uint8Array): void {
    this.#endLive();
    this.stdout.write(this.stdout.isTerminal ? this.#filter.feed(bytes) : bytes);
  }

  /** Output of a guest's command, byte for byte also on a terminal. @throws OutputClosed, BangerError OUTPUT_FAILED */
  async pass(stream: "stdout" | "stderr", bytes: Uint8Array): Promise<void> {
    this.#endLive();
    const sink = this[stream];
    if (sink.pass === undefined) sink.write(bytes);
    else await sink.pass(bytes);
  }

  line(text: Text): void {
    for (const piece of Array.isArray(text) ? (text as readonly (string | Painted)[]) : [text as string | Painted]) {
      if (piece instanceof Painted) this.#painted(piece);
      else this.data(piece);
    }
    this.data("\n");
  }

  #painted({ text }: Painted): void {
    this.#endLive();
    this.stdout.write(this.stdout.isTerminal ? this.#filter.flush() + text : text);
  }

  /** Before the answer is shown again; nothing where it isn't a terminal. */
  clearScreen(): void {
    if (this.stdout.isTerminal) this.#painted(CLEAR_SCREEN);
  }

  /** Aborts when nobody can read the answer any more (`banger logs -f box | head -1` and a guest that is quiet). */
  watchReader(): { readonly signal: AbortSignal } & Disposable {
    const gone = new AbortController();
    const check = async (): Promise<void> => {
      if ((await this.stdout.isClosed?.()) === true) gone.abort(new OutputClosed());
    };
    const timer = setInterval(() => void check(), READER_CHECK_MS);
    return { signal: gone.signal, [Symbol.dispose]: () => clearInterval(timer) };
  }

  /** Writes what a terminal was still kept waiting for. Call when the command is over. */
  finish(): void {
    this.#endLive();
    const rest = this.#filter.flush();
    if (rest !== "") this.stdout.write(rest);
  }

  /** One JSON document. */
  json(value: unknown): void {
    this.#json(JSON.stringify(value, null, 2));
  }

  /** One object of a stream, on a line of its own. */
  jsonLine(value: unknown): void {
    this.#json(JSON.stringify(value));
  }

  #json(text: string): void {
    this.data(`${this.stdout.isTerminal ? printableJson(text) : text}\n`);
  }

  table(head: readonly string[], rows: readonly (readonly string[])[]): void {
    const [first = "", ...lines] = formatTable([head, ...rows]).split(/(?<=\n)/);
    this.line(this.paint("dim", first.trimEnd()));
    this.data(lines.join(""));
  }

  /** A notice for a person, on stderr. */
  note(text: string): void {
    this.#say(`${printable(text)}\n`);
  }

  warn(text: string): void {
    this.#say(`${this.paint("yellow", "warning:", this.stderr).text} ${printable(text)}\n`);
  }

  /** `error: <message> [CODE]`, then `try: <command>`, then the operation. With `json`, the document on stdout. */
  error(error: BangerError, json = false, prefix = ""): void {
    if (json) {
      this.json({ error: error.toDocument() });
      return;
    }
    const [first = "", ...more] = printable(error.message).trim().split("\n");
    const label = this.paint("red", "error:", this.stderr).text;
    const said = [`${label} ${printableLine(prefix)}${first} [${error.code}]`, ...more];
    if (error.hint !== undefined) said.push(`try: ${printable(error.hint)}`);
    if (error.op !== undefined) said.push(`operation: ${printable(error.op)}`);
    this.#say(`${said.join("\n")}\n`);
  }

  /** Without a line end: a question on a terminal. */
  ask(question: string): void {
    this.#say(printable(question));
  }

  #say(text: string): void {
    this.#endLive();
    this.#writeError(text);
  }

  #writeError(text: string): void {
    try {
      this.stderr.write(text);
    } catch {
      // Nobody reads the notices, or their disk is full; the work goes on.
    }
  }

  /** Takes the live line away; it is drawn again at its next turn. */
  #endLive(): void {
    if (!this.#isLive) return;
    this.#isLive = false;
    this.#writeError(ERASE_LINE);
  }

  get #canDraw(): boolean {
    return this.stderr.isTerminal && !this.#isDumb;
  }

  /** The stages of something long. */
  stages(): Stages {
    if (!this.#canDraw) return plainStages((text) => this.note(text));
    return liveStages(this.#line, this.#clock, this.#isUnicode);
  }

  /** Shows what is waited for once it takes longer than a second, and only on a terminal. */
  async waiting<T>(message: string, work: (show: (done: number) => void) => Promise<T>): Promise<T> {
    if (!this.#canDraw) return await work(() => undefined);
    const stages = liveStages(this.#line, this.#clock, this.#isUnicode, true);
    stages.show({ stage: "wait", message });
    try {
      return await work((done) => stages.show({ stage: "wait", message, done }));
    } finally {
      stages.end();
    }
  }

  get #line(): LiveLine {
    return {
      draw: (text) => {
        this.#endLive();
        if (text === "") return;
        this.#isLive = true;
        this.#writeError(text);
      },
      keep: (text) => this.note(text),
      columns: () => Math.max(20, process.stderr.columns || 80),
    };
  }
}
