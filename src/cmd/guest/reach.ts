/** Opens the best way into a guest: its agent, or ssh where the agent doesn't answer. */

import type { AgentWayIn, SshWayIn } from "../../shared/contract/schemas.ts";
import { type AgentChannel, forLook, openAgentChannel, openAgentChannelOver } from "../../shared/agent/channel.ts";
import { BangerError } from "../../shared/errors.ts";
import type { Client } from "../daemon/client.ts";
import { connectGuest, findWayIn } from "./connect.ts";

/** An agent that runs answers in milliseconds, under emulation and load in a second or two. */
const ANSWER_TIMEOUT_MS = 10_000;

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
  const { openFarStream } = await import("./far-stream.ts");
  const stream = await openFarStream(via, id, signal);
  return await openAgentChannelOver(stream, { kind: channel.kind, timeoutMs: ANSWER_TIMEOUT_MS, signal });
}

/** Whether the agent answers on a channel of its own; null with all of its channels in use. */
async function answersBy(way: AgentWayIn, signal: AbortSignal): Promise<boolean | null> {
  const { answersOver } = await import("../../shared/agent/client.ts");
  try {
    await using channel = await openWay({ ...way, channel: forLook(way.channel) }, signal);
    return await answersOver(channel, { timeoutMs: ANSWER_TIMEOUT_MS, signal });
  } catch (thrown) {
    if (thrown instanceof BangerError) return thrown.code === "IN_USE" ? null : false;
    throw thrown;
  }
}
