/** Runs a command through a guest's agent: the request, and what goes back and forth until the command has ended. */

import { BangerError } from "../errors.ts";
import { type AgentExit, exitOf, pidOf, refusalOf } from "./answers.ts";
import type { AgentChannel, FrameReceiver } from "./channel.ts";
import { LONGEST_TIMER_MS } from "../streams/deadline.ts";
import { BrokenChannel, brokenProtocol, encodeFrame, type FrameTo } from "./frames.ts";
import { AGENT_LIMITS, EXEC_FLAGS } from "./protocol.ts";
import { StdinWindow } from "./stdin-window.ts";

export { type AgentExit, AgentRefusal } from "./answers.ts";

export interface AgentExec {
  /** Bytes pass unchanged. Empty only for a login shell. */
  readonly argv: readonly (string | Uint8Array)[];
  /** On top of the user's login environment. */
  readonly env: readonly (readonly [string, string])[];
  /** Left out: the user's home. */
  readonly directory?: string | undefined;
  /** A name or a number; left out: root. */
  readonly user?: string | undefined;
  /** The command gets a terminal, and all its output is stdout. */
  readonly terminal?: { readonly rows: number; readonly columns: number } | undefined;
  /** Runs the user's login shell, with the arguments as its command. */
  readonly login?: boolean | undefined;
  readonly noStdin?: boolean | undefined;
  /** The command goes on when the channel breaks. */
  readonly keep?: boolean | undefined;
  /** Waits for the end of the output, even if the process has ended. */
  readonly waitOutput?: boolean | undefined;
  /** After this time the agent sends TERM to everything of the exec, and KILL `killAfterMs` later. */
  readonly timeoutMs?: number | undefined;
  readonly killAfterMs?: number | undefined;
}

type Sink = (bytes: Uint8Array) => void | Promise<void>;
/** While a sink's promise is pending, nothing more is read from the channel. An error of theirs ends the exec, and is its error. */
export interface OutputSinks {
  readonly stdout: Sink;
  readonly stderr: Sink;
}

export interface AgentRunning {
  readonly pid: number;
  /**
   * Sends input, in the order of the calls; resolves when the window took all of it. False if the command takes no input any more: its
   * input was ended, it has ended itself, or the channel broke. Never rejects.
   */
  writeStdin(bytes: Uint8Array): Promise<boolean>;
  /** Ends the input, after what was written before. */
  endStdin(): void;
  resize(rows: number, columns: number): void;
  signal(number: number): void;
  /** @throws BangerError EXEC_FAILED (the channel broke), EXEC_TIMEOUT, CANCELLED, AgentRefusal; a sink's error */
  readonly exited: Promise<AgentExit>;
}

export interface StartOptions {
  /** How long the agent may take to start the command. */
  readonly startTimeoutMs?: number | undefined;
  /** How long after `killAfterMs` the agent may take to report the end of a command past its `timeoutMs`. */
  readonly reportTimeoutMs?: number | undefined;
  /** Breaks the channel, at any time until the command has ended. */
  readonly signal?: AbortSignal | undefined;
}

const START_TIMEOUT_MS = 30_000;
const KILL_AFTER_MS = 10_000;
const REPORT_TIMEOUT_MS = 15_000;
const MOST_U16 = 0xffff;
const MOST_U32 = 0xffff_ffff;

/**
 * Starts a command. The channel is used up: it closes with the command's end.
 * @throws AgentRefusal when the agent can't start it; BangerError EXEC_FAILED (the channel broke, or no answer in time), CANCELLED,
 * INVALID_VALUE for what can't be sent
 */
export async function startExec(
  channel: AgentChannel,
  exec: AgentExec,
  sinks: OutputSinks,
  { startTimeoutMs = START_TIMEOUT_MS, reportTimeoutMs = REPORT_TIMEOUT_MS, signal }: StartOptions = {},
): Promise<AgentRunning> {
  const request = encodeExec(exec);
  const running = new RunningExec(channel, exec, sinks, reportTimeoutMs);
  const onAbort = (): void => channel.fail(new BangerError("CANCELLED", "cancelled", { cause: signal?.reason }));
  signal?.addEventListener("abort", onAbort, { once: true });
  const settle = (): void => signal?.removeEventListener("abort", onAbort);
  running.exited.then(settle, settle);
  const late = `the guest's agent started nothing within ${startTimeoutMs} ms`;
  const giveUp = (): void => channel.fail(new BangerError("EXEC_FAILED", late));
  const timer = setTimeout(giveUp, Math.min(startTimeoutMs, LONGEST_TIMER_MS));
  try {
    channel.receive(running);
    if (signal?.aborted === true) onAbort();
    else channel.send(request);
    await running.started;
    return running;
  } finally {
    clearTimeout(timer);
  }
}

function encodeExec(exec: AgentExec): Buffer {
  const { argv, env, directory, user, terminal, login, noStdin, keep, waitOutput, timeoutMs, killAfterMs } = exec;
  if (argv.length === 0 && login !== true) throw new BangerError("INVALID_VALUE", "there is no command to run");
  const flags =
    (terminal === undefined ? 0 : EXEC_FLAGS.terminal) |
    (login === true ? EXEC_FLAGS.login : 0) |
    (noStdin === true ? EXEC_FLAGS.noStdin : 0) |
    (keep === true ? EXEC_FLAGS.keep : 0) |
    (waitOutput === true ? EXEC_FLAGS.waitOutput : 0);
  const variables = env.map(([name, value]) => `${name}=${value}`);
  return Buffer.concat([
    ...pieces("argument", joined("the arguments", argv, AGENT_LIMITS.argumentsBytes)),
    ...pieces("variable", joined("the environment", variables, AGENT_LIMITS.variablesBytes)),
    ...(directory === undefined
      ? []
      : [encodeFrame("directory", { bytes: plain("the directory", directory, AGENT_LIMITS.directoryBytes) })]),
    ...(user === undefined ? [] : [encodeFrame("user", { bytes: plain("the user", user, AGENT_LIMITS.userBytes) })]),
    encodeFrame("exec", {
      flags,
      rows: within(terminal?.rows ?? 0, MOST_U16),
      columns: within(terminal?.columns ?? 0, MOST_U16),
      timeoutMs: within(timeoutMs ?? 0, MOST_U32),
      killAfterMs: within(killAfterMs ?? KILL_AFTER_MS, MOST_U32),
    }),
  ]);
}

const within = (value: number, most: number): number => Math.max(0, Math.min(Math.ceil(value), most));

/** @throws BangerError INVALID_VALUE */
function plain(what: string, text: string | Uint8Array, limitBytes: number): Buffer {
  const bytes = Buffer.from(text as Uint8Array);
  if (bytes.includes(0)) throw new BangerError("INVALID_VALUE", `${what} can't contain a NUL character`);
  if (bytes.length > limitBytes) throw tooLong(what, bytes.length, limitBytes);
  return bytes;
}

const tooLong = (what: string, length: number, limitBytes: number): BangerError =>
  new BangerError("INVALID_VALUE", `too long for a guest: ${what} (${length} bytes, at most ${limitBytes})`);

/** Each ended by a NUL. */
function joined(what: string, texts: readonly (string | Uint8Array)[], limitBytes: number): Buffer {
  const end = Buffer.alloc(1);
  const all = Buffer.concat(texts.flatMap((text) => [plain(what, text, limitBytes), end]));
  if (all.length > limitBytes) throw tooLong(what, all.length, limitBytes);
  return all;
}

function pieces(name: "argument" | "variable", bytes: Buffer): Buffer[] {
  const size = AGENT_LIMITS.payloadBytes;
  return Array.from({ length: Math.ceil(bytes.length / size) }, (_, i) =>
    encodeFrame(name, { bytes: bytes.subarray(i * size, (i + 1) * size) }),
  );
}

class RunningExec implements AgentRunning, FrameReceiver {
  pid = 0;
  readonly started: Promise<void>;
  readonly exited: Promise<AgentExit>;
  readonly #start = Promise.withResolvers<void>();
  readonly #exit = Promise.withResolvers<AgentExit>();
  readonly #channel: AgentChannel;
  readonly #sinks: OutputSinks;
  readonly #stdin: StdinWindow;
  readonly #hasTerminal: boolean;
  readonly #limitMs: number | null;
  readonly #reportTimeoutMs: number;
  #limit: ReturnType<typeof setTimeout> | undefined;
  #isOutputPending = false;
  #isOver = false;

  constructor(channel: AgentChannel, exec: AgentExec, sinks: OutputSinks, reportTimeoutMs: number) {
    this.#channel = channel;
    this.#sinks = sinks;
    this.#hasTerminal = exec.terminal !== undefined;
    const { timeoutMs = 0, killAfterMs = KILL_AFTER_MS } = exec;
    this.#limitMs = timeoutMs > 0 ? timeoutMs + killAfterMs + reportTimeoutMs : null;
    this.#reportTimeoutMs = reportTimeoutMs;
    this.#stdin = new StdinWindow((frame) => channel.send(frame), exec.noStdin === true);
    this.started = this.#start.promise;
    this.exited = this.#exit.promise;
    // Whoever waits for only one of them hears of every failure from it.
    this.started.catch(() => {});
    this.exited.catch(() => {});
  }

  async writeStdin(bytes: Uint8Array): Promise<boolean> {
    return await this.#stdin.write(bytes);
  }

  endStdin(): void {
    this.#stdin.end();
  }

  resize(rows: number, columns: number): void {
    if (this.#isOver || !this.#hasTerminal) return;
    this.#channel.send(encodeFrame("resize", { rows: within(rows, MOST_U16), columns: within(columns, MOST_U16) }));
  }

  signal(number: number): void {
    if (!this.#isOver) this.#channel.send(encodeFrame("signal", { number }));
  }

  onFrame(frame: FrameTo<"host">): void | Promise<void> {
    if (frame.name === "error") throw refusalOf("EXEC_FAILED", frame);
    if (frame.name === "started" ? this.pid !== 0 : this.pid === 0) throw brokenProtocol(`"${frame.name}" out of turn`);
    switch (frame.name) {
      case "started":
        this.pid = pidOf(frame);
        this.#watch(this.#limitMs);
        this.#start.resolve();
        return;
      case "stdout":
      case "stderr":
        return frame.bytes.length === 0 ? undefined : this.#output(this.#sinks[frame.name](frame.bytes));
      case "credit":
        this.#stdin.credit(frame.bytes);
        return;
      case "exited": {
        const exit = exitOf(frame);
        this.#end();
        this.#channel.finish();
        this.#exit.resolve(exit);
        return;
      }
      default:
        throw brokenProtocol(`"${frame.name}" during an exec`);
    }
  }

  onLost(error: Error): void {
    this.#end();
    const shown =
      error instanceof BrokenChannel ? new BangerError("EXEC_FAILED", error.message, { cause: error }) : error;
    this.#start.reject(shown);
    this.#exit.reject(shown);
  }

  #output(taking: void | Promise<void>): void | Promise<void> {
    if (!(taking instanceof Promise)) return;
    this.#isOutputPending = true;
    return taking.finally(() => {
      this.#isOutputPending = false;
    });
  }

  /** A guest that doesn't keep the time limit is given up, but not for output that this side is slow to take. */
  #watch(ms: number | null): void {
    if (ms === null || ms > LONGEST_TIMER_MS) return;
    this.#limit = setTimeout(() => {
      if (this.#isOutputPending) return this.#watch(this.#reportTimeoutMs);
      const why = "the guest's agent did not report the end of the command after its time limit";
      this.#channel.fail(new BangerError("EXEC_TIMEOUT", why));
    }, ms);
  }

  #end(): void {
    this.#isOver = true;
    clearTimeout(this.#limit);
    this.#stdin.close();
  }
}
