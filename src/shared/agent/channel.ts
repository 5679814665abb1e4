/** A channel to a guest's agent: a stream of frames, once the handshake is done. One request each. */

import type { Duplex } from "node:stream";
import { BangerError } from "../errors.ts";
import { connectVsock } from "../jail.ts";
import { FrameDecoder, type FrameTo } from "./frames.ts";
import { type HandshakeOptions, shakeHands, unanswered } from "./handshake.ts";
import { AGENT_VSOCK_PORT } from "./protocol.ts";
import { connectSerialPort } from "./serial-port.ts";

/** Where a VM's agent is found; `directory` is the VM's runtime directory. */
export type AgentPlace =
  { readonly kind: "vsock"; readonly jailRoot: string } | { readonly kind: "serial"; readonly directory: string };

export interface FrameReceiver {
  /** Takes the next frame. While its promise is pending, nothing more is read. What it throws, breaks the channel. */
  onFrame(frame: FrameTo<"host">): void | Promise<void>;
  /** The channel broke, or was closed before `finish`. Called at most once, and no frame comes after it. */
  onLost(error: Error): void;
}

/** A duplex byte stream with the handshake done. Disposing of it closes it, and frees its port. */
export interface AgentChannel extends AsyncDisposable {
  /** Sends a whole frame, or several. Doesn't wait; what can't be sent any more is dropped, and the receiver hears why. */
  send(frames: Uint8Array): void;
  /** Starts reading. Only once for each channel. */
  receive(receiver: FrameReceiver): void;
  /** The agent's last word was heard: closes, and reads nothing more. */
  finish(): void;
  /** Closes; the receiver hears `why`. */
  fail(why: Error): void;
}

export interface ChannelOptions {
  readonly timeoutMs: number;
  readonly signal?: AbortSignal | undefined;
}

/** How long the end of a closed stream is waited for. */
const CLOSE_MS = 1000;

/**
 * Connects to the agent and shakes hands.
 * @throws BangerError GUEST_NOT_READY (nobody answers in time, or an agent of another version), IN_USE when all ports stay taken,
 * CANCELLED
 */
export async function openAgentChannel(
  place: AgentPlace,
  { timeoutMs, signal }: ChannelOptions,
): Promise<AgentChannel> {
  const deadline = performance.now() + timeoutMs;
  const stream = await connectAgent(place, { timeoutMs, signal });
  return await openAgentChannelOver(stream, {
    kind: place.kind,
    timeoutMs: Math.max(1, Math.ceil(deadline - performance.now())),
    signal,
  });
}

/**
 * The bare stream to the agent, before the handshake; a serial port is free again when it is closed. For whoever hands the bytes on.
 * @throws like {@link openAgentChannel}
 */
export async function connectAgent(place: AgentPlace, { timeoutMs, signal }: ChannelOptions): Promise<Duplex> {
  if (signal?.aborted === true) throw new BangerError("CANCELLED", "cancelled", { cause: signal.reason });
  return place.kind === "vsock"
    ? await connectVsock(place.jailRoot, AGENT_VSOCK_PORT, timeoutMs)
    : await connectSerialPort(place.directory, timeoutMs, signal);
}

/** The same over any stream that leads to an agent: ssh's, for a VM on another host. It is destroyed if this fails. */
export async function openAgentChannelOver(stream: Duplex, options: HandshakeOptions): Promise<AgentChannel> {
  try {
    return new StreamChannel(stream, await shakeHands(stream, options));
  } catch (thrown) {
    stream.destroy();
    throw thrown;
  }
}

class StreamChannel implements AgentChannel {
  readonly #stream: Duplex;
  readonly #decoder = new FrameDecoder("host");
  readonly #closed = Promise.withResolvers<void>();
  #receiver: FrameReceiver | null = null;
  #isBusy = false;
  #isOver = false;
  /** Why no more bytes come. Told only after the frames that came before. */
  #ended: Error | null = null;

  constructor(stream: Duplex, rest: Buffer) {
    this.#stream = stream;
    this.#decoder.feed(rest);
    if (stream.closed) this.#closed.resolve();
    const onEnd = (): void => this.#end(unanswered("it closed the connection"));
    stream
      .on("error", (error) => this.#end(unanswered(error.message, error)))
      .on("end", onEnd)
      .on("close", () => {
        this.#closed.resolve();
        onEnd();
      });
    if (stream.destroyed || stream.readableEnded) onEnd();
  }

  send(frames: Uint8Array): void {
    if (!this.#isOver && this.#stream.writable) this.#stream.write(frames);
  }

  receive(receiver: FrameReceiver): void {
    if (this.#receiver !== null) throw new Error("a channel has one receiver");
    this.#receiver = receiver;
    this.#stream.on("data", (chunk: Buffer) => {
      if (this.#isOver) return;
      this.#decoder.feed(chunk);
      this.#deliver();
    });
    this.#deliver();
  }

  finish(): void {
    this.#isOver = true;
    this.#stream.destroy();
  }

  fail(why: Error): void {
    if (this.#isOver) return;
    this.finish();
    this.#receiver?.onLost(why);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.fail(new BangerError("CANCELLED", "the channel to the guest's agent was closed"));
    this.finish();
    const timer = setTimeout(this.#closed.resolve, CLOSE_MS);
    await this.#closed.promise;
    clearTimeout(timer);
  }

  #end(why: Error): void {
    this.#ended ??= why;
    if (!this.#isBusy) this.#deliver();
  }

  /** Hands on whole frames until none is left or the receiver is busy. */
  #deliver(): void {
    if (this.#receiver === null || this.#isBusy) return;
    try {
      while (!this.#isOver) {
        const frame = this.#decoder.next();
        if (frame === null) break;
        const taking = this.#receiver.onFrame(frame);
        if (taking instanceof Promise) return this.#waitFor(taking);
      }
    } catch (thrown) {
      return this.fail(thrown as Error);
    }
    if (this.#ended !== null) this.fail(this.#ended);
    else if (!this.#isOver) this.#stream.resume();
  }

  #waitFor(taking: Promise<void>): void {
    this.#isBusy = true;
    this.#stream.pause();
    taking.then(
      () => {
        this.#isBusy = false;
        this.#deliver();
      },
      (thrown: unknown) => this.fail(thrown as Error),
    );
  }
}
