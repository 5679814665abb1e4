/** The handshake that begins every session (see `protocol.ts`), from the host's side. */

import { randomBytes } from "node:crypto";
import type { Duplex } from "node:stream";
import { BangerError } from "../errors.ts";
import {
  AGENT_LIMITS,
  AGENT_PROTOCOL,
  ANSWER_MAGIC,
  HEADER_BYTES,
  HELLO_MAGIC,
  MAGIC_BYTES,
  NONCE_BYTES,
} from "./protocol.ts";

const VERSION_BYTES = 4;
const FIRST_RESEND_MS = 250;
const SLOWEST_RESEND_MS = 4000;
/** Completes whatever frame an old session waits for, and ends that session: type 0 is none. */
const RESYNC_BYTES = AGENT_LIMITS.payloadBytes + HEADER_BYTES;

export interface HandshakeOptions {
  /** A serial port keeps what an earlier session left, so the hello may get lost and is repeated. A vsock connection is new. */
  readonly kind: "vsock" | "serial";
  readonly timeoutMs: number;
  readonly signal?: AbortSignal | undefined;
}

/** No answer, or none any more. */
export const unanswered = (why: string, cause?: unknown): BangerError =>
  new BangerError("GUEST_NOT_READY", `the guest's agent did not answer: ${why}`, { cause });

function hello(nonce: Buffer): Buffer {
  const version = Buffer.alloc(VERSION_BYTES);
  version.writeUInt32LE(AGENT_PROTOCOL);
  return Buffer.concat([Buffer.from(HELLO_MAGIC, "latin1"), nonce, version]);
}

/**
 * Says hello until the agent answers this hello, and throws away everything before the answer. Leaves the stream paused, without
 * listeners of its own but one for errors.
 * @returns the bytes that came after the answer
 * @throws BangerError GUEST_NOT_READY: no answer in time, or the agent of another version; CANCELLED
 */
export async function shakeHands(stream: Duplex, { kind, timeoutMs, signal }: HandshakeOptions): Promise<Buffer> {
  const { promise, resolve, reject } = Promise.withResolvers<Buffer>();
  let expected = Buffer.alloc(0);
  let tail: Buffer = Buffer.alloc(0);
  let waitMs = FIRST_RESEND_MS;
  let resend: ReturnType<typeof setTimeout> | undefined;

  const greet = (): void => {
    const nonce = randomBytes(NONCE_BYTES);
    expected = Buffer.concat([Buffer.from(ANSWER_MAGIC, "latin1"), nonce]);
    stream.write(hello(nonce));
  };
  const greetAgain = (): void => {
    // Nobody reads there yet: the earlier hello is still on its way, and more would only pile up.
    if (stream.writableLength === 0) {
      stream.write(Buffer.alloc(RESYNC_BYTES));
      greet();
    }
    waitMs = Math.min(waitMs * 2, SLOWEST_RESEND_MS);
    resend = setTimeout(greetAgain, waitMs);
  };
  const onData = (chunk: Buffer): void => {
    tail = tail.length === 0 ? chunk : Buffer.concat([tail, chunk]);
    const at = tail.indexOf(expected);
    if (at === -1) {
      // A copy: a view would keep all of the chunk.
      tail = Buffer.from(tail.subarray(-(MAGIC_BYTES + NONCE_BYTES - 1)));
      return;
    }
    tail = tail.subarray(at);
    if (tail.length < expected.length + VERSION_BYTES) return;
    const version = tail.readUInt32LE(expected.length);
    stream.pause();
    if (version === AGENT_PROTOCOL) resolve(tail.subarray(expected.length + VERSION_BYTES));
    else reject(otherVersion(version));
  };
  const onError = (error: Error): void => reject(unanswered(error.message, error));
  const onEnd = (): void => reject(unanswered("it closed the connection"));
  const onAbort = (): void => reject(new BangerError("CANCELLED", "cancelled", { cause: signal?.reason }));

  const timer = setTimeout(() => reject(unanswered(`nothing came within ${timeoutMs} ms`)), timeoutMs);
  stream.on("data", onData).on("error", onError).on("end", onEnd).on("close", onEnd);
  signal?.addEventListener("abort", onAbort, { once: true });
  try {
    if (signal?.aborted === true) onAbort();
    else if (stream.destroyed) onEnd();
    else {
      greet();
      if (kind === "serial") resend = setTimeout(greetAgain, waitMs);
      stream.resume();
    }
    return await promise;
  } finally {
    clearTimeout(timer);
    clearTimeout(resend);
    signal?.removeEventListener("abort", onAbort);
    // An error that comes between two owners of the stream must not end the process.
    stream.on("error", () => {});
    stream.off("data", onData).off("error", onError).off("end", onEnd).off("close", onEnd);
  }
}

/** Details have the version, by which {@link isOtherVersion} knows it. */
function otherVersion(version: number): BangerError {
  return new BangerError(
    "GUEST_NOT_READY",
    `the guest's agent has protocol version ${version}, this banger has ${AGENT_PROTOCOL}: the VM was started by another version`,
    { details: { agentProtocol: version }, hint: "banger vm restart" },
  );
}

/** True for the answer of an agent that no second try makes any younger. */
export const isOtherVersion = (error: BangerError): boolean => error.details?.["agentProtocol"] !== undefined;
