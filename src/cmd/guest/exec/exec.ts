/** Runs a command in a guest by the way that was found, and says what became of it: to a person, or to a program. */

import { constants } from "node:os";
import type { ExecOutput, ExecResult } from "../../../shared/contract/exec-result.ts";
import { BangerError, exitStatusOf } from "../../../shared/errors.ts";
import type { Interrupts } from "../../terminal/interrupts.ts";
import { type Output, OutputClosed } from "../../terminal/output.ts";
import type { AgentGuest, SshGuest } from "../reach.ts";
import { execOverAgent, NotRun } from "./agent.ts";
import type { Ending, GuestCommand, OutputSinks } from "./command.ts";
import { execOverSsh } from "./ssh.ts";

interface Context {
  readonly out: Output;
  readonly interrupts: Interrupts;
}

const STATUS_OF_CLOSED_OUTPUT = 128 + constants.signals.SIGPIPE;
const CAPTURE_BYTES = 1024 * 1024;

/**
 * Runs the command with this process's input and output and returns its status.
 * @throws BangerError EXEC_TIMEOUT, EXEC_FAILED, OUTPUT_FAILED
 */
export async function execInGuest(
  guest: AgentGuest | SshGuest,
  command: GuestCommand,
  { out, interrupts }: Context,
): Promise<number> {
  let ending: Ending;
  try {
    ending =
      guest.kind === "ssh"
        ? await execOverSsh(guest, command, null, interrupts)
        : await execOverAgent(guest, command, sinksOf(out), interrupts);
  } catch (thrown) {
    // Nobody reads the output any more: what a program dies of that writes all the same.
    if (thrown instanceof OutputClosed) return STATUS_OF_CLOSED_OUTPUT;
    if (!(thrown instanceof NotRun)) throw thrown;
    out.note(thrown.message);
    return thrown.status;
  }
  if (ending.timedOut)
    throw new BangerError("EXEC_TIMEOUT", `the command ran longer than ${(command.timeoutMs ?? 0) / 1000} s`, {
      details: { timeoutMs: command.timeoutMs },
    });
  return ending.status;
}

function sinksOf(out: Output): OutputSinks {
  return {
    stdout: async (bytes) => await out.pass("stdout", bytes),
    stderr: async (bytes) => await out.pass("stderr", bytes),
  };
}

/**
 * Runs the command with this process's input and prints what became of it as JSON, its output included; returns its status.
 * @throws BangerError EXEC_FAILED, OUTPUT_FAILED
 */
export async function execForProgram(
  guest: AgentGuest | SshGuest,
  command: GuestCommand,
  { out, interrupts }: Context,
): Promise<number> {
  const [stdout, stderr] = [new Capture(), new Capture()];
  const sinks = { stdout: stdout.take, stderr: stderr.take };
  let ending: Ending;
  try {
    ending = await (guest.kind === "ssh"
      ? execOverSsh(guest, command, sinks, interrupts)
      : execOverAgent(guest, command, sinks, interrupts));
  } catch (thrown) {
    if (!(thrown instanceof NotRun)) throw thrown;
    await stderr.take(Buffer.from(`${thrown.message}\n`));
    ending = { ...NOTHING_RAN, status: thrown.status };
  }
  const status = ending.timedOut ? exitStatusOf("EXEC_TIMEOUT") : ending.status;
  const result: ExecResult = { vm: guest.name, ...ending, status, stdout: stdout.read(), stderr: stderr.read() };
  out.json(result);
  return status;
}

const NOTHING_RAN = { signal: null, timedOut: false, wallMs: 0, userMs: 0, systemMs: 0, peakMemoryBytes: 0 };

/** The beginning of an output, of bounded size. */
class Capture {
  readonly #pieces: Uint8Array[] = [];
  #length = 0;
  #isTruncated = false;

  readonly take = async (bytes: Uint8Array): Promise<void> => {
    const taken = bytes.subarray(0, CAPTURE_BYTES - this.#length);
    this.#isTruncated ||= taken.length < bytes.length;
    this.#length += taken.length;
    // A copy: the bytes are only lent.
    if (taken.length > 0) this.#pieces.push(taken.slice());
    return await Promise.resolve();
  };

  read(): ExecOutput {
    const bytes = Buffer.concat(this.#pieces);
    const truncated = this.#isTruncated;
    try {
      // A letter that was cut in two is left away.
      const data = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes, { stream: truncated });
      return { encoding: "utf-8", data, truncated };
    } catch {
      return { encoding: "base64", data: bytes.toString("base64"), truncated };
    }
  }
}
