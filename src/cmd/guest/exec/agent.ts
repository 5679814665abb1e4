/** A guest command through the guest's agent: its input, output, signals and terminal are this process's own. */

import { constants } from "node:os";
import { BangerError } from "../../../shared/errors.ts";
import { type AgentExit, AgentRefusal, type AgentRunning, startExec } from "../../../shared/agent/exec.ts";
import { StandardInput } from "../../terminal/input.ts";
import type { Interrupts } from "../../terminal/interrupts.ts";
import type { RawMode, TerminalSize } from "../../terminal/raw-mode.ts";
import type { AgentGuest } from "../reach.ts";
import { type Ending, type GuestCommand, KILL_AFTER_MS, LEAVE_AFTER_MS, type OutputSinks } from "./command.ts";
import { takeSignals } from "./signals.ts";

/** The command didn't start because of its own words: what a shell says then, and the status it has. */
export class NotRun extends Error {
  override readonly name = "NotRun";
  readonly status: number;

  constructor(status: number, message: string) {
    super(message);
    this.status = status;
  }
}

const NOT_EXECUTABLE = 126;
const NOT_FOUND = 127;

/** This process's terminal, where the command has one. */
interface Terminal {
  readonly mode: RawMode;
  readSize(): TerminalSize;
}

/** Loads foreign functions, so only with a terminal. */
async function findTerminal(): Promise<Terminal> {
  const { RawMode, readSize } = await import("../../terminal/raw-mode.ts");
  return { mode: new RawMode(), readSize };
}

/**
 * Runs the command and returns how it ended. Uses up the guest's channel.
 * @throws NotRun; BangerError EXEC_FAILED, CANCELLED; OutputClosed when nobody reads the output any more
 */
export async function execOverAgent(
  guest: AgentGuest,
  command: GuestCommand,
  sinks: OutputSinks,
  interrupts: Interrupts,
): Promise<Ending> {
  await using channel = guest.channel;
  const terminal = command.tty ? await findTerminal() : null;
  const began = performance.now();
  // Whoever reads the first output may send a signal at once, or a key: no output before these are the command's.
  const prepared = Promise.withResolvers<void>();
  const later: OutputSinks = {
    stdout: async (bytes) => await prepared.promise.then(async () => await sinks.stdout(bytes)),
    stderr: async (bytes) => await prepared.promise.then(async () => await sinks.stderr(bytes)),
  };
  const running = await start({ ...guest, channel }, command, later, terminal, interrupts);
  const left = Promise.withResolvers<Ending>();
  const leave = (status: number, timedOut: boolean): void =>
    left.resolve({ ...UNKNOWN, status, signal: null, timedOut, wallMs: performance.now() - began });
  using _mode = terminal?.mode ?? null;
  using _signals = takeSignals(interrupts, {
    send: (number) => running.signal(number),
    leave: (number) => leave(128 + number, false),
    resize: () => tellSize(running, terminal),
    pause: async () => {
      if (terminal !== null) return terminal.mode.leave();
      // SIGTSTP itself stops nothing in a session without a terminal (setpgid(2), orphaned process groups).
      running.signal(constants.signals.SIGSTOP);
      await Bun.sleep(0);
    },
    resume: () => {
      if (terminal === null) return running.signal(constants.signals.SIGCONT);
      terminal.mode.enter();
      tellSize(running, terminal);
    },
  });
  const timer =
    command.timeoutMs === null ? null : setTimeout(() => leave(0, true), command.timeoutMs + LEAVE_AFTER_MS);
  await using input = new StandardInput();
  try {
    terminal?.mode.enter();
    // It may have another size by now.
    tellSize(running, terminal);
    prepared.resolve();
    if (!command.noStdin) void feed(running, input);
    return await Promise.race([running.exited.then(endingOf), left.promise]);
  } catch (thrown) {
    throw named(thrown, guest.name);
  } finally {
    if (timer !== null) clearTimeout(timer);
  }
}

async function start(
  guest: AgentGuest,
  command: GuestCommand,
  sinks: OutputSinks,
  terminal: Terminal | null,
  { signal }: Interrupts,
): Promise<AgentRunning> {
  const { argv, login, noStdin, waitOutput } = command;
  // As ssh does: programs in the guest draw for the terminal that banger runs in.
  const TERM = process.env["TERM"];
  const env = terminal === null || TERM === undefined ? command.env : [["TERM", TERM] as const, ...command.env];
  try {
    return await startExec(
      guest.channel,
      {
        ...{ argv, env, login, noStdin, waitOutput },
        directory: command.workDir ?? undefined,
        user: command.user ?? undefined,
        terminal: terminal?.readSize(),
        timeoutMs: command.timeoutMs ?? undefined,
        killAfterMs: KILL_AFTER_MS,
      },
      sinks,
      { signal },
    );
  } catch (thrown) {
    throw thrown instanceof AgentRefusal ? refused(thrown, guest.name, command) : named(thrown, guest.name);
  }
}

function refused(refusal: AgentRefusal, vm: string, { argv, workDir, user }: GuestCommand): Error {
  const program = Buffer.from((argv[0] ?? "") as Uint8Array).toString();
  const why = refusal.text;
  const fail = (message: string): BangerError => new BangerError("EXEC_FAILED", message, { cause: refusal });
  switch (refusal.reason) {
    case "notFound":
      return new NotRun(NOT_FOUND, `${program}: command not found in ${vm}`);
    case "notExecutable":
      return new NotRun(NOT_EXECUTABLE, `${program} can't be executed in ${vm}: ${why}`);
    case "directory":
      return fail(`${workDir ?? "the home directory"} in ${vm} can't be entered: ${why}`);
    case "user":
      return fail(`${vm} has no user ${user ?? "root"}`);
    default:
      return fail(`${vm} could not start the command: ${why}`);
  }
}

/** The channel's own failures don't know the VM's name. */
export function named(thrown: unknown, vm: string): unknown {
  if (!(thrown instanceof BangerError) || thrown.code !== "EXEC_FAILED") return thrown;
  return new BangerError("EXEC_FAILED", `the connection to ${vm} was lost: ${thrown.message}`, {
    hint: `banger vm show ${vm}`,
    cause: thrown,
  });
}

function tellSize(running: AgentRunning, terminal: Terminal | null): void {
  if (terminal === null) return;
  const { rows, columns } = terminal.readSize();
  running.resize(rows, columns);
}

/** Hands this process's input to the command until either ends. Reads only what the guest has room for. */
async function feed(running: AgentRunning, input: StandardInput): Promise<void> {
  try {
    for (;;) {
      const bytes = await input.read();
      if (bytes === null) break;
      if (!(await running.writeStdin(bytes))) return;
    }
  } catch {
    // A directory, or a terminal that is gone: to the command, the end of its input.
  }
  running.endStdin();
}

const UNKNOWN = { userMs: null, systemMs: null, peakMemoryBytes: null } as const;

const SIGNAL_NAMES = new Map(Object.entries(constants.signals).map(([name, number]) => [number as number, name]));

function endingOf(exit: AgentExit): Ending {
  return {
    status: exit.status,
    signal: exit.signal === 0 ? null : (SIGNAL_NAMES.get(exit.signal) ?? `SIGRTMIN+${exit.signal - 34}`),
    timedOut: exit.timedOut,
    wallMs: exit.wallMicroseconds / 1000,
    userMs: exit.userMicroseconds / 1000,
    systemMs: exit.systemMicroseconds / 1000,
    peakMemoryBytes: exit.peakKib * 1024,
  };
}
