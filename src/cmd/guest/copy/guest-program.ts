/** A program in a guest with its streams, through the guest's agent or ssh. A copy doesn't know which of them it has. */

import { AgentRefusal, type AgentRunning, startExec } from "../../../shared/agent/exec.ts";
import { BangerError } from "../../../shared/errors.ts";
import { quote } from "../../../shared/remote-command.ts";
import { named } from "../exec/agent.ts";
import { sshLine } from "../exec/ssh.ts";
import type { AgentGuest, SshGuest } from "../reach.ts";
import { type Ending, type Part, Remarks, startTool, writeTo } from "./programs.ts";

/** Takes output. While its promise is pending, the guest's program waits. What it throws ends the program, and is its error. */
export type Sink = (bytes: Uint8Array) => void | Promise<void>;

export interface GuestProgram extends Part {
  /** Resolves when there is room for more; false if the program takes no more. Never rejects. */
  write(bytes: Uint8Array): Promise<boolean>;
  /** Ends the input. */
  end(): void;
}

export interface GuestTask {
  readonly argv: readonly string[];
  readonly hasInput: boolean;
  /** Null for a program that prints nothing. */
  readonly stdout: Sink | null;
}

/** Starts a program in a copy's guest. @throws BangerError FAILED when the guest lacks it; EXEC_FAILED, CANCELLED; as `reachGuest` */
export type StartInGuest = (task: GuestTask) => Promise<GuestProgram>;

/** @throws BangerError FAILED when the guest lacks the program, EXEC_FAILED, CANCELLED */
export async function startInGuest(
  guest: AgentGuest | SshGuest,
  task: GuestTask,
  signal: AbortSignal,
): Promise<GuestProgram> {
  return guest.kind === "agent" ? await startByAgent(guest, task, signal) : startBySsh(guest, task);
}

async function startByAgent(
  { channel, name }: AgentGuest,
  { argv, hasInput, stdout }: GuestTask,
  signal: AbortSignal,
): Promise<GuestProgram> {
  const remarks = new Remarks();
  // What tools say is read in one language.
  const exec = { argv, env: [["LC_ALL", "C"] as const], directory: "/", noStdin: !hasInput };
  const sinks = { stdout: stdout ?? (() => undefined), stderr: (bytes: Uint8Array) => remarks.add(bytes) };
  let running: AgentRunning;
  try {
    running = await startExec(channel, exec, sinks, { signal });
  } catch (thrown) {
    await channel[Symbol.asyncDispose]();
    if (!(thrown instanceof AgentRefusal) || thrown.reason !== "notFound") throw named(thrown, name);
    throw new BangerError("FAILED", `${name} has no ${argv[0]}, and banger cp needs it`, { cause: thrown });
  }
  const end = async (): Promise<Ending> => {
    await using _channel = channel;
    try {
      const exit = await running.exited;
      return { status: exit.signal === 0 ? exit.status : null, said: remarks.text };
    } catch (thrown) {
      throw named(thrown, name);
    }
  };
  return {
    write: async (bytes) => await running.writeStdin(bytes),
    end: () => running.endStdin(),
    stop: () => channel.fail(new BangerError("CANCELLED", "the copy was stopped")),
    ended: end(),
  };
}

function startBySsh({ connection }: SshGuest, { argv, hasInput, stdout }: GuestTask): GuestProgram {
  const line = sshLine(connection, "-T", `exec ${argv.map(quote).join(" ")}`);
  const child = startTool(line, hasInput ? "pipe" : "ignore", stdout === null ? "ignore" : "pipe");
  const remarks = new Remarks();
  const drain = async (): Promise<void> => {
    try {
      if (stdout !== null) for await (const bytes of child.stdout as ReadableStream<Uint8Array>) await stdout(bytes);
    } catch (thrown) {
      child.kill("SIGTERM");
      throw thrown;
    }
  };
  const listen = async (): Promise<void> => {
    for await (const bytes of child.stderr) remarks.add(bytes);
  };
  const ended = Promise.all([drain(), listen(), child.exited]);
  return {
    write: async (bytes) => {
      if (child.stdin === undefined) return false;
      return await writeTo(child.stdin, bytes).then(
        () => true,
        // It reads no more; its own end says why.
        () => false,
      );
    },
    end: () => void child.stdin?.end(),
    stop: () => child.kill("SIGTERM"),
    ended: ended.then(() => ({ status: child.exitCode, said: remarks.text })),
  };
}
