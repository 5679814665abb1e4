/**
 * Runs a program by argument vector: no shell, a deadline always, bounds on what is kept of its output. Which program a name
 * means, and what it sees of the environment, each role decides for itself.
 */

import { BangerError } from "./errors.ts";

export interface ProgramOptions {
  readonly timeoutMs: number;
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly cwd?: string;
  readonly stdin?: string;
  readonly signal?: AbortSignal;
  /** The program's; default: this process's. */
  readonly umask?: number;
  /** More of standard output is no answer, and ends the program. */
  readonly stdoutLimitBytes: number;
  /** So many of standard error's last characters are kept. */
  readonly stderrKept: number;
  /** Called with each complete line of standard error as it comes. */
  readonly onStderrLine?: (line: string) => void;
  /** How errors call the program; its first word unless told. */
  readonly name?: string;
  /** The words that errors have in their details; `argv` unless told. */
  readonly asked?: readonly string[];
}

export interface ProgramResult {
  readonly exitCode: number;
  readonly stdout: Uint8Array;
  readonly stderr: string;
}

/** How long a killed program's pipes may stay open: what it started may have left its group and still hold them. */
const DRAIN_TIMEOUT_MS = 1000;

/** @throws BangerError FAILED past the deadline or beyond the output's limit; the signal's reason on abort */
export async function runProgram(argv: readonly string[], options: ProgramOptions): Promise<ProgramResult> {
  const { timeoutMs, signal, stdoutLimitBytes, name = argv[0] ?? "", asked = argv } = options;
  signal?.throwIfAborted();
  const child = spawn(argv, options);
  let ended = "in time" as "in time" | "too late" | "too long";
  const abandoned = Promise.withResolvers<null>();
  const end = (): void => {
    try {
      process.kill(-child.pid, "SIGKILL");
    } catch {
      // Already gone.
    }
    setTimeout(() => abandoned.resolve(null), DRAIN_TIMEOUT_MS).unref();
  };
  const timer = setTimeout(() => {
    ended = "too late";
    end();
  }, timeoutMs);
  const tooLong = (): void => {
    ended = "too long";
    end();
  };
  signal?.addEventListener("abort", end, { once: true });
  try {
    const said = Promise.all([
      readUpTo(child.stdout, stdoutLimitBytes, tooLong),
      readLines(child.stderr, options.stderrKept, options.onStderrLine),
      child.exited,
    ]);
    const result = await Promise.race([said, abandoned.promise]);
    signal?.throwIfAborted();
    const details = { argv: asked, stderr: result?.[1] ?? "" };
    if (ended === "too long")
      throw new BangerError("FAILED", `${name} said more than ${stdoutLimitBytes} bytes`, { details });
    if (ended === "too late" || result === null)
      throw new BangerError("FAILED", `${name} did not end within ${timeoutMs / 1000} s`, { details });
    return { stdout: result[0], stderr: result[1], exitCode: result[2] };
  } finally {
    clearTimeout(timer);
    signal?.removeEventListener("abort", end);
  }
}

function spawn(
  argv: readonly string[],
  { stdin, env, cwd, umask }: ProgramOptions,
): Bun.Subprocess<"ignore" | Uint8Array, "pipe", "pipe"> {
  // The umask is the process's; nothing else runs between these lines, and spawn has forked when it returns.
  const own = umask === undefined ? null : process.umask(umask);
  try {
    return Bun.spawn([...argv], {
      stdin: stdin === undefined ? "ignore" : new TextEncoder().encode(stdin),
      stdout: "pipe",
      stderr: "pipe",
      env: { ...env },
      // A group of its own: a ctrl-c meant for our terminal must not end a program half way, and a deadline must end what
      // the program itself started.
      detached: true,
      ...(cwd === undefined ? {} : { cwd }),
    });
  } finally {
    if (own !== null) process.umask(own);
  }
}

/** The last lines of what a program said that failed. */
export function lastWords(
  { stdout, stderr }: Pick<ProgramResult, "stdout" | "stderr">,
  lines: number,
): readonly string[] {
  return (stderr.trim() || new TextDecoder().decode(stdout).trim()).split("\n").slice(-lines);
}

async function readUpTo(stream: ReadableStream<Uint8Array>, limit: number, tooLong: () => void): Promise<Uint8Array> {
  const chunks: Uint8Array[] = [];
  let size = 0;
  for await (const chunk of stream) {
    size += chunk.length;
    if (size > limit) {
      tooLong();
      break;
    }
    chunks.push(chunk);
  }
  return Buffer.concat(chunks);
}

async function readLines(
  stream: ReadableStream<Uint8Array>,
  keptLength: number,
  onLine?: (line: string) => void,
): Promise<string> {
  const decoder = new TextDecoder();
  let kept = "";
  let partial = "";
  for await (const chunk of stream) {
    const text = decoder.decode(chunk, { stream: true });
    kept = (kept + text).slice(-keptLength);
    if (onLine === undefined) continue;
    const lines = (partial + text).split(/[\r\n]+/);
    partial = lines.pop() ?? "";
    for (const line of lines) onLine(line);
  }
  return kept;
}
