/** A channel to a guest's agent: a stream of frames, once the handshake is done. One request each. */

import type { Duplex } from "node:stream";
import { BangerError } from "../errors.ts";
import { countDown, type Patience } from "../streams/deadline.ts";
import { BrokenChannel, FrameDecoder, type FrameTo } from "./frames.ts";
import { type HandshakeOptions, shakeHands } from "./handshake.ts";
import { AGENT_VSOCK_PORT } from "./protocol.ts";
import type { SerialPlace } from "./serial-port.ts";
import { type SilenceTimes, watchSilence } from "./silence.ts";
import { type Wire, wireOver } from "../streams/wire.ts";

/** Where a VM's agent is found. */
export type AgentPlace =
  { readonly kind: "vsock"; readonly jailRoot: string } | ({ readonly kind: "serial" } & SerialPlace);

/** The same place, for a short look whether the agent answers: also when commands have all other ways in. */
export const forLook = (place: AgentPlace): AgentPlace =>
  place.kind === "serial" ? { ...place, isLook: true } : place;

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
  /** Lets the channel fail when it is quiet and the agent, asked another way, doesn't answer any more. Only once for each channel. */
  watch(answers: () => Promise<boolean | null>, times?: SilenceTimes): void;
  /** The agent's last word was heard: closes, and reads nothing more. */
  finish(): void;
  /** Closes; the receiver hears `why`. */
  fail(why: Error): void;
}

/**
 * Connects to the agent and shakes hands.
 * @throws BangerError GUEST_NOT_READY (nobody answers in time, or an agent of another version), IN_USE when all ports stay taken,
 * CANCELLED
 */
export async function openAgentChannel(place: AgentPlace, { timeoutMs, signal }: Patience): Promise<AgentChannel> {
  const leftMs = countDown(timeoutMs);
  const wire = await connectAgent(place, { timeoutMs, signal });
  return await openOver(wire, { kind: place.kind, timeoutMs: leftMs(), signal });
}

/**
 * The bare bytes to and from the agent, before the handshake, for whoever hands them on. A serial port is free again when the wire is
 * closed.
 * @throws like {@link openAgentChannel}
 */
export async function connectAgent(place: AgentPlace, patience: Patience): Promise<Wire> {
  // Each way loads only what it needs: every exec pays for it.
  if (place.kind === "serial") {
    const { connectSerialPort } = await import("./serial-port.ts");
    return await connectSerialPort(place, patience);
  }
  const { connectVsock } = await import("../jail.ts");
  return await connectVsock(place.jailRoot, AGENT_VSOCK_PORT, patience);
}

/** The same over any stream that leads to an agent: ssh's, for a VM on another host. It is destroyed if this fails. */
export async function openAgentChannelOver(stream: Duplex, options: HandshakeOptions): Promise<AgentChannel> {
  return await openOver(wireOver(stream), options);
}

async function openOver(wire: Wire, options: HandshakeOptions): Promise<AgentChannel> {
  try {
    await shakeHands(wire, options);
    return new WireChannel(wire);
  } catch (thrown) {
    wire.close();
    throw thrown;
  }
}

/** The channel ended before the agent's last word. */
const lost = (why: string): BrokenChannel =>
  new BrokenChannel("GUEST_NOT_READY", `lost the connection to the guest's agent: ${why}`);

const closedHere = (): BangerError => new BangerError("CANCELLED", "the channel to the guest's agent was closed");

/** How long the end of a closed stream is waited for. */
const CLOSE_MS = 1000;

class WireChannel implements AgentChannel {
  readonly #wire: Wire;
  readonly #decoder = new FrameDecoder("host");
  #receiver: FrameReceiver | null = null;
  #isBusy = false;
  #isOver = false;
  #heardAt = performance.now();
  #silence: Disposable | null = null;

  constructor(wire: Wire) {
    this.#wire = wire;
  }

  send(frames: Uint8Array): void {
    this.#wire.write(frames);
  }

  receive(receiver: FrameReceiver): void {
    if (this.#receiver !== null) throw new Error("a channel has one receiver");
    this.#receiver = receiver;
    if (this.#isOver) return receiver.onLost(closedHere());
    this.#wire.read({
      onData: (bytes) => {
        this.#heardAt = performance.now();
        this.#decoder.feed(bytes);
        this.#deliver(receiver);
      },
      onEnd: (why) => this.fail(lost(why)),
    });
    this.#wire.resume();
  }

  watch(answers: () => Promise<boolean | null>, times?: SilenceTimes): void {
    if (this.#isOver) return;
    this.#silence = watchSilence(
      () => this.#heardAt,
      answers,
      () => this.fail(lost("it doesn't answer any more")),
      times,
    );
  }

  finish(): void {
    this.#isOver = true;
    this.#silence?.[Symbol.dispose]();
    this.#wire.close();
  }

  fail(why: Error): void {
    if (this.#isOver) return;
    this.finish();
    this.#receiver?.onLost(why);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.fail(closedHere());
    this.finish();
    const { promise, resolve } = Promise.withResolvers<void>();
    const timer = setTimeout(resolve, CLOSE_MS);
    await Promise.race([this.#wire.gone, promise]);
    clearTimeout(timer);
  }

  /** Hands on whole frames until none is left or the receiver is busy. */
  #deliver(receiver: FrameReceiver): void {
    try {
      while (!this.#isOver && !this.#isBusy) {
        const frame = this.#decoder.next();
        if (frame === null) return;
        const taking = receiver.onFrame(frame);
        if (taking instanceof Promise) this.#waitFor(taking, receiver);
      }
    } catch (thrown) {
      this.fail(thrown as Error);
    }
  }

  #waitFor(taking: Promise<void>, receiver: FrameReceiver): void {
    this.#isBusy = true;
    this.#wire.pause();
    taking.then(
      () => {
        this.#isBusy = false;
        this.#deliver(receiver);
        if (!this.#isBusy && !this.#isOver) this.#wire.resume();
      },
      (thrown: unknown) => this.fail(thrown as Error),
    );
  }
}
