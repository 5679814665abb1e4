/** A guest command over ssh: input, output and status are the command's own, byte for byte. */

import { constants } from "node:os";
import type { SshWayIn } from "../../shared/contract/schemas.ts";
import { BangerError } from "../../shared/errors.ts";
import { quote, remoteExecCommand, remoteSignalCommand, remoteStatusCommand } from "../../shared/remote-command.ts";
import type { Interrupts } from "../terminal/interrupts.ts";

export interface GuestCommand {
  readonly argv: readonly string[];
  readonly workDir: string;
  readonly env: readonly (readonly [name: string, value: string])[];
  /** Whether the command gets a terminal. */
  readonly tty: boolean;
  readonly timeoutMs: number | null;
  /** Whether the command's input is empty instead of this process's. */
  readonly noStdin?: boolean;
}

/** What ssh itself ends with when the connection fails; also a status a command may have. */
const SSH_FAILED = 255;
const SIDE_COMMAND_TIMEOUT_MS = 15_000;
/** After the polite signal of a timeout. */
const KILL_AFTER_MS = 3000;
/** A guest that doesn't even do that is left. */
const LEAVE_AFTER_MS = 15_000;
/** So many interrupts, and banger leaves though the guest command stays. */
const PATIENCE = 3;

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
 * Runs the command with this process's stdin, stdout and stderr and returns its status.
 * @throws BangerError EXEC_TIMEOUT, EXEC_FAILED when ssh lost the connection
 */
export async function execInGuest(
  connection: SshWayIn,
  command: GuestCommand,
  interrupts: Interrupts,
): Promise<number> {
  const execId = Buffer.from(crypto.getRandomValues(new Uint8Array(8))).toString("hex");
  const line = remoteExecCommand({ execId, workDir: command.workDir, argv: command.argv, env: command.env });
  const child = Bun.spawn(sshLine(connection, command.tty ? "-tt" : "-T", line), {
    stdio: [command.noStdin === true ? "ignore" : "inherit", "inherit", "inherit"],
    // Away from the terminal's signals: an interrupt is for the guest command, and ssh must live to tell its status. With a
    // terminal in the guest, ssh needs this one, whose keys then reach the guest as they are.
    detached: !command.tty,
  });
  let signals = 0;
  const taken = interrupts.take((name) => {
    signals++;
    if (signals >= PATIENCE) child.kill("SIGKILL");
    else void runBeside(connection, remoteSignalCommand(execId, name.slice(3) as "INT" | "TERM" | "HUP"));
  });
  let isOver = false;
  const timers =
    command.timeoutMs === null
      ? []
      : [
          setTimeout(() => {
            isOver = true;
            void runBeside(connection, remoteSignalCommand(execId, "TERM"));
          }, command.timeoutMs),
          setTimeout(
            () => void runBeside(connection, remoteSignalCommand(execId, "KILL")),
            command.timeoutMs + KILL_AFTER_MS,
          ),
          setTimeout(() => child.kill("SIGKILL"), command.timeoutMs + LEAVE_AFTER_MS),
        ];
  try {
    await child.exited;
  } finally {
    for (const timer of timers) clearTimeout(timer);
    taken[Symbol.dispose]();
  }
  if (isOver) {
    throw new BangerError("EXEC_TIMEOUT", `the command ran longer than ${(command.timeoutMs ?? 0) / 1000} s`, {
      details: { timeoutMs: command.timeoutMs },
    });
  }
  if (child.exitCode === null) return statusOfSignal(child.signalCode);
  if (child.exitCode === SSH_FAILED && (await runBeside(connection, remoteStatusCommand(execId))) !== 0) {
    throw new BangerError("EXEC_FAILED", `the connection to ${connection.name} was lost`, {
      hint: `banger vm show ${connection.name}`,
    });
  }
  return child.exitCode;
}

/** An interactive shell, or whatever stdin holds fed to one; returns its status. */
export async function openShell(connection: SshWayIn, interrupts: Interrupts, isTerminal: boolean): Promise<number> {
  const child = Bun.spawn(sshLine(connection, isTerminal ? "-tt" : "-T"), { stdio: ["inherit", "inherit", "inherit"] });
  using _taken = interrupts.take((name) => child.kill(name));
  await child.exited;
  return child.exitCode ?? statusOfSignal(child.signalCode);
}
