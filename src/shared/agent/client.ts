/** Calls to a guest's agent that are one request and its answer, each within a deadline. */

import { BangerError } from "../errors.ts";
import { type AgentExit, type AgentReady, listenerOf, readyOf, refusalOf, usageOf } from "./answers.ts";
import { type AgentChannel, type AgentPlace, openAgentChannel } from "./channel.ts";
import { countDown, limitWait, type Patience, sleep } from "../streams/deadline.ts";
import { type AgentExec, startExec } from "./exec.ts";
import { brokenProtocol, encodeFrame, type FrameTo } from "./frames.ts";
import { GrowingBytes } from "../streams/growing-bytes.ts";
import { isOtherVersion, unanswered } from "./handshake.ts";
import { AGENT_LIMITS, POWER_KINDS } from "./protocol.ts";

/** Between two tries to reach an agent that may not run yet. */
const RETRY_MS = 50;

/**
 * Runs a command and collects its output. `outputLimitBytes` is for both outputs together.
 * @throws AgentRefusal; BangerError GUEST_FAILED when there is more output, or the command runs longer; GUEST_NOT_READY, IN_USE,
 * EXEC_FAILED, CANCELLED
 */
export async function runInGuest(
  place: AgentPlace,
  exec: AgentExec & { readonly stdin?: Uint8Array | undefined },
  { timeoutMs, outputLimitBytes, signal }: Patience & { readonly outputLimitBytes: number },
): Promise<{ readonly exit: AgentExit; readonly stdout: Buffer; readonly stderr: Buffer }> {
  const leftMs = countDown(timeoutMs);
  await using channel = await openAgentChannel(place, { timeoutMs, signal });
  const output = { stdout: new GrowingBytes(), stderr: new GrowingBytes() };
  const collect = (name: "stdout" | "stderr") => (bytes: Uint8Array) => {
    if (output.stdout.length + output.stderr.length + bytes.length > outputLimitBytes)
      throw new BangerError("GUEST_FAILED", `the command's output is longer than ${outputLimitBytes} bytes`);
    output[name].push(bytes);
  };
  const { stdin, ...request } = exec;
  const sinks = { stdout: collect("stdout"), stderr: collect("stderr") };
  const late = new BangerError("GUEST_FAILED", `the command did not end within ${timeoutMs} ms`);
  const fail = (why: BangerError): void => channel.fail(why);
  using _limit = limitWait({ timeoutMs: leftMs(), signal }, () => fail(late), fail);
  const running = await startExec(channel, { ...request, noStdin: stdin === undefined }, sinks, {
    startTimeoutMs: timeoutMs,
  });
  if (stdin !== undefined) void running.writeStdin(stdin).then(() => running.endStdin());
  const exit = await running.exited;
  return { exit, stdout: output.stdout.bytes, stderr: output.stderr.bytes };
}

/**
 * Waits until commands can run in the guest, from before its agent runs.
 * @throws BangerError GUEST_NOT_READY, IN_USE, GUEST_FAILED, CANCELLED
 */
export async function waitReady(place: AgentPlace, { timeoutMs, signal }: Patience): Promise<AgentReady> {
  const leftMs = countDown(timeoutMs);
  for (;;) {
    try {
      await using channel = await openAgentChannel(place, { timeoutMs: leftMs(), signal });
      return await answerOf(channel, encodeFrame("waitReady", {}), { timeoutMs: leftMs(), signal }, (frame) => {
        if (frame.name !== "ready") throw outOfTurn(frame);
        return readyOf(frame);
      });
    } catch (thrown) {
      if (!(thrown instanceof BangerError) || thrown.code !== "GUEST_NOT_READY" || isOtherVersion(thrown)) throw thrown;
      if (leftMs() <= RETRY_MS)
        throw new BangerError(thrown.code, `the guest was not ready within ${timeoutMs} ms: ${thrown.message}`);
    }
    await sleep(RETRY_MS, signal);
  }
}

/** Sets the guest's clock. @throws AgentRefusal; BangerError GUEST_NOT_READY, IN_USE, GUEST_FAILED, CANCELLED */
export async function setClock(place: AgentPlace, date: Date, options: Patience): Promise<void> {
  const ms = date.getTime();
  const seconds = Math.floor(ms / 1000);
  const request = encodeFrame("clock", { seconds: BigInt(seconds), nanoseconds: (ms - seconds * 1000) * 1_000_000 });
  await ask(place, request, options, isDone);
}

/** Returns when the guest's init took the order. @throws AgentRefusal; BangerError GUEST_NOT_READY, IN_USE, GUEST_FAILED, CANCELLED */
export async function powerOff(place: AgentPlace, kind: keyof typeof POWER_KINDS, options: Patience): Promise<void> {
  await ask(place, encodeFrame("power", { kind: POWER_KINDS[kind] }), options, isDone);
}

/** Bytes that the guest's interfaces counted. @throws AgentRefusal; BangerError GUEST_NOT_READY, IN_USE, GUEST_FAILED, CANCELLED */
export async function readUsage(
  place: AgentPlace,
  options: Patience,
): Promise<{ readonly rxBytes: number; readonly txBytes: number }> {
  let usage: { rxBytes: number; txBytes: number } | null = null;
  return await ask(place, encodeFrame("usage", {}), options, (frame) => {
    if (frame.name === "done" && usage !== null) return usage;
    if (frame.name !== "counters" || usage !== null) throw outOfTurn(frame);
    usage = usageOf(frame);
    return null;
  });
}

/** Whether the agent behind an open channel answers. Uses the channel up. */
export async function answersOver(channel: AgentChannel, options: Patience): Promise<boolean> {
  try {
    return await answerOf(channel, encodeFrame("usage", {}), options, (frame) => (frame.name === "done" ? true : null));
  } catch (thrown) {
    if (thrown instanceof BangerError) return false;
    throw thrown;
  }
}

/** The guest's listening TCP ports. @throws AgentRefusal; BangerError GUEST_NOT_READY, IN_USE, GUEST_FAILED, CANCELLED */
export async function readListeners(
  place: AgentPlace,
  options: Patience,
): Promise<readonly { readonly port: number; readonly process: string | null }[]> {
  const listeners: { port: number; process: string | null }[] = [];
  return await ask(place, encodeFrame("listeners", {}), options, (frame) => {
    if (frame.name === "done") return listeners;
    if (frame.name !== "listener") throw outOfTurn(frame);
    if (listeners.push(listenerOf(frame)) > AGENT_LIMITS.listeners) throw brokenProtocol("too many listeners");
    return null;
  });
}

const outOfTurn = ({ name }: FrameTo<"host">): BangerError => brokenProtocol(`"${name}" out of turn`);

function isDone(frame: FrameTo<"host">): true {
  if (frame.name !== "done") throw outOfTurn(frame);
  return true;
}

/**
 * Sends one request and gives each frame to `take`, until that returns the answer.
 * @throws BangerError GUEST_NOT_READY or IN_USE only before the request was sent: what was asked, may have been done
 */
async function ask<T>(
  place: AgentPlace,
  request: Uint8Array,
  { timeoutMs, signal }: Patience,
  take: (frame: FrameTo<"host">) => T | null,
): Promise<T> {
  const leftMs = countDown(timeoutMs);
  await using channel = await openAgentChannel(place, { timeoutMs, signal });
  try {
    return await answerOf(channel, request, { timeoutMs: leftMs(), signal }, take);
  } catch (thrown) {
    if (!(thrown instanceof BangerError) || thrown.code !== "GUEST_NOT_READY") throw thrown;
    throw new BangerError("GUEST_FAILED", thrown.message, { cause: thrown });
  }
}

/**
 * The same over an open channel, which this uses up.
 * @throws AgentRefusal; BangerError GUEST_NOT_READY (no answer), GUEST_FAILED, CANCELLED
 */
export async function answerOf<T>(
  channel: AgentChannel,
  request: Uint8Array,
  { timeoutMs, signal }: Patience,
  take: (frame: FrameTo<"host">) => T | null,
): Promise<T> {
  const { promise, resolve, reject } = Promise.withResolvers<T>();
  channel.receive({
    onFrame: (frame) => {
      if (frame.name === "error") throw refusalOf("GUEST_FAILED", frame);
      const answer = take(frame);
      if (answer === null) return;
      channel.finish();
      resolve(answer);
    },
    onLost: reject,
  });
  channel.send(request);
  const fail = (why: BangerError): void => channel.fail(why);
  using _limit = limitWait({ timeoutMs, signal }, () => fail(unanswered("timed out")), fail);
  return await promise;
}
