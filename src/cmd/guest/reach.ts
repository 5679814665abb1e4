/** Opens the best way into a guest: its agent, or ssh where the agent doesn't answer. */

import { spawn } from "node:child_process";
import { Duplex, type Readable } from "node:stream";
import type { AgentWayIn, SshWayIn } from "../../shared/contract/schemas.ts";
import { type AgentChannel, openAgentChannel, openAgentChannelOver } from "../../shared/agent/channel.ts";
import { BangerError } from "../../shared/errors.ts";
import type { Client } from "../daemon/client.ts";
import { connectGuest, findWayIn } from "./connect.ts";

/** An agent that runs answers in milliseconds, under emulation and load in a second or two. */
const ANSWER_TIMEOUT_MS = 10_000;

/** ssh and banger on the other machine. */
const FAR_TIMEOUT_MS = 20_000;
/** What `banger internal guest-stream` says once it is connected: only then a lost hello would be repeated soon. */
export const STREAM_GREETING = "banger guest-stream 1\n";
const GREETING_WITHIN_BYTES = 65_536;

/** A guest's agent, ready for one request. */
export interface AgentGuest {
  readonly kind: "agent";
  readonly name: string;
  readonly workDir: string;
  readonly channel: AgentChannel;
}

export interface SshGuest {
  readonly kind: "ssh";
  readonly name: string;
  readonly workDir: string;
  readonly connection: SshWayIn;
}

/**
 * A guest to run something in. Dispose of an agent's channel.
 * @throws BangerError what `vm.connect` does, CANCELLED
 */
export async function reachGuest(client: Client, vm: string, signal: AbortSignal): Promise<AgentGuest | SshGuest> {
  const way = await findWayIn(client, vm);
  if (way.kind === "agent") {
    try {
      const channel = await openWay(way, signal);
      channel.watch(async () => await answersBy(way, signal));
      return { kind: "agent", name: way.name, workDir: way.workDir, channel };
    } catch (thrown) {
      if (!isSilent(thrown)) throw thrown;
    }
  }
  const connection = way.kind === "ssh" ? way : await connectGuest(client, way.id);
  return { kind: "ssh", name: connection.name, workDir: connection.workDir, connection };
}

/** Nobody answers, or all of the agent's ports are in use: sshd may do it as well. */
function isSilent(thrown: unknown): boolean {
  return thrown instanceof BangerError && (thrown.code === "GUEST_NOT_READY" || thrown.code === "IN_USE");
}

async function openWay({ channel, id, via }: AgentWayIn, signal: AbortSignal): Promise<AgentChannel> {
  if (via === undefined) return await openAgentChannel(channel, { timeoutMs: ANSWER_TIMEOUT_MS, signal });
  const stream = await streamThrough(via, id, AbortSignal.any([signal, AbortSignal.timeout(FAR_TIMEOUT_MS)]));
  return await openAgentChannelOver(stream, { kind: channel.kind, timeoutMs: ANSWER_TIMEOUT_MS, signal });
}

/** Whether the agent answers on a channel of its own. With all of its channels in use, it does. */
async function answersBy(way: AgentWayIn, signal: AbortSignal): Promise<boolean> {
  const { answersOver } = await import("../../shared/agent/client.ts");
  try {
    await using channel = await openWay(way, signal);
    return await answersOver(channel, { timeoutMs: ANSWER_TIMEOUT_MS, signal });
  } catch (thrown) {
    if (thrown instanceof BangerError) return thrown.code === "IN_USE";
    throw thrown;
  }
}

/**
 * The bytes of a guest's agent on another machine, from banger there. They end with this process, however it ends.
 * @throws BangerError GUEST_NOT_READY
 */
async function streamThrough(via: readonly string[], id: string, signal: AbortSignal): Promise<Duplex> {
  const [ssh = "ssh", ...options] = via;
  const child = spawn(ssh, ["-T", ...options, `banger internal guest-stream ${id}`], {
    stdio: ["pipe", "pipe", "ignore"],
    // Away from the terminal's signals: they are for the command in the guest.
    detached: true,
  });
  const { stdin, stdout } = child;
  const stream = new Duplex({
    read: () => stdout.resume(),
    write: (chunk: Buffer, _, done) => stdin.write(chunk, done),
    final: (done) => stdin.end(done),
    destroy: (error, done) => {
      stdin.destroy();
      stdout.destroy();
      child.kill("SIGTERM");
      done(error);
    },
  });
  // Whoever reads or writes it hears of its end.
  stream.on("error", () => undefined);
  for (const part of [child, stdin, stdout]) part.on("error", (error: Error) => stream.destroy(error));
  try {
    const rest = await readGreeting(stdout, signal);
    stdout
      .on("end", () => stream.push(null))
      .on("data", (chunk: Buffer) => {
        if (!stream.push(chunk)) stdout.pause();
      });
    if (rest.length > 0) stream.push(rest);
  } catch (thrown) {
    stream.destroy();
    throw thrown;
  }
  return stream;
}

/** Waits for the greeting of banger there; what its login shell says before is thrown away. Returns what came after. */
async function readGreeting(stdout: Readable, signal: AbortSignal): Promise<Buffer> {
  const { promise, resolve, reject } = Promise.withResolvers<Buffer>();
  const fail = (): void => reject(new BangerError("GUEST_NOT_READY", "banger on the other machine did not answer"));
  let said: Buffer = Buffer.alloc(0);
  const onData = (chunk: Buffer): void => {
    said = Buffer.concat([said, chunk]);
    const at = said.indexOf(STREAM_GREETING);
    if (at !== -1) resolve(said.subarray(at + STREAM_GREETING.length));
    else if (said.length > GREETING_WITHIN_BYTES) fail();
  };
  stdout.on("data", onData).once("close", fail);
  signal.addEventListener("abort", fail, { once: true });
  try {
    return await promise;
  } finally {
    stdout.off("data", onData).off("close", fail).pause();
    signal.removeEventListener("abort", fail);
  }
}
