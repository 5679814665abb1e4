/** A guest command over ssh, where the guest's agent doesn't answer; and a shell. The descriptors are ssh's. */

import { constants } from "node:os";
import type { SshWayIn } from "../../../shared/contract/schemas.ts";
import { BangerError, isErrno } from "../../../shared/errors.ts";
import { quote, remoteExecCommand, remoteSignalCommand, remoteStatusCommand } from "../../../shared/remote-command.ts";
import { requireText } from "../../line/raw-arguments.ts";
import type { Interrupts } from "../../terminal/interrupts.ts";
import type { SshGuest } from "../reach.ts";
import {
  type Ending,
  type GuestCommand,
  KILL_AFTER_MS,
  LEAVE_AFTER_MS,
  type OutputSinks,
  PATIENCE,
} from "./command.ts";

/** What ssh itself ends with when the connection fails; also a status a command may have. */
const SSH_FAILED = 255;
/** In process.argv, before the arguments. */
const PROGRAM_WORDS = 2;
const SIDE_COMMAND_TIMEOUT_MS = 15_000;
/** As a shell reports a process that a signal ended. */
function statusOfSignal(signal: Bun.Subprocess["signalCode"]): number {
  return 128 + (typeof signal === "string" ? constants.signals[signal] : (signal ?? 0));
}

/** The argv that runs a line in the guest, or without one opens a shell there. */
export function sshLine({ sshArgv, via }: SshWayIn, option: "-T" | "-tt", ...line: readonly string[]): string[] {
  const [ssh = "ssh", ...options] = sshArgv;
  const argv = [ssh, option, ...options, ...line];
  if (via === undefined) return argv;
  const [outer = "ssh", ...outerOptions] = via;
  return [outer, option, ...outerOptions, argv.map(quote).join(" ")];
}

/** A command of banger's own beside the user's; its status, or null when it did not end in time. */
async function runBeside(connection: SshWayIn, line: string): Promise<number | null> {
  const child = Bun.spawn(sshLine(connection, "-T", line), {
    stdin: "ignore",
    stdout: "ignore",
    stderr: "ignore",
    detached: true,
  });
  const timer = setTimeout(() => child.kill("SIGKILL"), SIDE_COMMAND_TIMEOUT_MS);
  await child.exited;
  clearTimeout(timer);
  return child.exitCode;
}

/**
 * Runs the command with this process's stdin, and its stdout and stderr if there are no sinks; returns how it ended.
 * @throws BangerError EXEC_FAILED when ssh lost the connection, or for what only an agent can do; INVALID_VALUE
 */
export async function execOverSsh(
  { connection }: SshGuest,
  command: GuestCommand,
  sinks: OutputSinks | null,
  interrupts: Interrupts,
): Promise<Ending> {
  checkPossible(connection, command);
  const { env, workDir, timeoutMs } = command;
  const execId = Buffer.from(crypto.getRandomValues(new Uint8Array(8))).toString("hex");
  const argv = requireText(command.argv, process.argv.length - PROGRAM_WORDS - command.argv.length);
  const line = remoteExecCommand({ execId, workDir: workDir ?? connection.workDir, argv, env });
  const began = performance.now();
  const child = startSsh(sshLine(connection, command.tty ? "-tt" : "-T", line), command, sinks !== null);
  let signals = 0;
  const taken = interrupts.take((name) => {
    signals++;
    if (signals >= PATIENCE) child.kill("SIGKILL");
    else void runBeside(connection, remoteSignalCommand(execId, name.slice(3) as "INT" | "TERM" | "HUP"));
  });
  let timedOut = false;
  const timers =
    timeoutMs === null
      ? []
      : [
          setTimeout(() => {
            timedOut = true;
            void runBeside(connection, remoteSignalCommand(execId, "TERM"));
          }, timeoutMs),
          setTimeout(() => void runBeside(connection, remoteSignalCommand(execId, "KILL")), timeoutMs + KILL_AFTER_MS),
          setTimeout(() => child.kill("SIGKILL"), timeoutMs + LEAVE_AFTER_MS),
        ];
  try {
    if (sinks !== null) await Promise.all([drain(child.stdout, sinks.stdout), drain(child.stderr, sinks.stderr)]);
    await child.exited;
  } finally {
    for (const timer of timers) clearTimeout(timer);
    taken[Symbol.dispose]();
  }
  const { exitCode, signalCode } = child;
  if (!timedOut && exitCode === SSH_FAILED && (await runBeside(connection, remoteStatusCommand(execId))) !== 0) {
    throw new BangerError("EXEC_FAILED", `the connection to ${connection.name} was lost`, {
      hint: `banger vm show ${connection.name}`,
    });
  }
  return {
    status: exitCode ?? statusOfSignal(signalCode),
    signal: null,
    timedOut,
    wallMs: performance.now() - began,
    userMs: null,
    systemMs: null,
    peakMemoryBytes: null,
  };
}

/** @throws BangerError EXEC_FAILED */
function checkPossible({ name }: SshWayIn, { user, login }: GuestCommand): void {
  const flag = user !== null ? "--user" : login ? "--login" : null;
  if (flag === null) return;
  throw new BangerError("EXEC_FAILED", `${flag} needs banger's agent in ${name}, which doesn't answer`, {
    hint: `banger vm restart ${name}`,
  });
}

type Ssh = Bun.Subprocess<"ignore" | "inherit", "pipe" | "inherit", "pipe" | "inherit">;

/** @throws BangerError INVALID_VALUE when the line is longer than one argument of a program may be (execve(2), MAX_ARG_STRLEN) */
function startSsh(argv: readonly string[], { noStdin, tty }: GuestCommand, captures: boolean): Ssh {
  const output = captures ? "pipe" : "inherit";
  try {
    return Bun.spawn([...argv], {
      stdio: [noStdin ? "ignore" : "inherit", output, output],
      // Away from the terminal's signals: an interrupt is for the guest command, and ssh must live to tell its status. With a
      // terminal in the guest, ssh needs this one, whose keys then reach the guest as they are.
      detached: !tty,
    });
  } catch (thrown) {
    if (!isErrno(thrown, "E2BIG")) throw thrown;
    throw new BangerError("INVALID_VALUE", "the command is too long for ssh", {
      hint: "pass the long part on standard input",
      cause: thrown,
    });
  }
}

async function drain(stream: Ssh["stdout"], sink: (bytes: Uint8Array) => Promise<void>): Promise<void> {
  for await (const bytes of stream ?? []) await sink(bytes);
}

/** An interactive shell, or whatever stdin holds fed to one; returns its status. */
export async function openShell(connection: SshWayIn, interrupts: Interrupts, isTerminal: boolean): Promise<number> {
  const child = Bun.spawn(sshLine(connection, isTerminal ? "-tt" : "-T"), { stdio: ["inherit", "inherit", "inherit"] });
  using _taken = interrupts.take((name) => child.kill(name));
  await child.exited;
  return child.exitCode ?? statusOfSignal(child.signalCode);
}
