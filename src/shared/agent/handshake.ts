/** The handshake that begins every session (see `protocol.ts`), from the host's side. */

import { BangerError } from "../errors.ts";
import { limitWait, type Patience } from "../streams/deadline.ts";
import { AGENT_LIMITS, AGENT_PROTOCOL, ANSWER_MAGIC, HEADER_BYTES, HELLO_MAGIC, NONCE_BYTES } from "./protocol.ts";
import type { Wire } from "../streams/wire.ts";

const VERSION_BYTES = 4;
/** Far more than an earlier session can have left in a port: a guest that sends so much and no answer is hostile. */
const MOST_NOISE_BYTES = 64 * 1024 * 1024;
/** Rarely needed, as a hello only gets lost behind a frame that a killed host left half sent; and each costs a slow guest a process. */
const FIRST_RESEND_MS = 1000;
/** Completes whatever frame an old session waits for, and ends that session: type 0 is none. */
const RESYNC_BYTES = AGENT_LIMITS.payloadBytes + HEADER_BYTES;

export interface HandshakeOptions extends Patience {
  /** A serial port keeps what an earlier session left, so the hello may get lost and is repeated. A vsock connection is new. */
  readonly kind: "vsock" | "serial";
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
 * Says hello until the agent answers this hello, and throws away everything before the answer. Leaves the wire paused, with the bytes
 * that came after the answer.
 * @throws BangerError GUEST_NOT_READY: no answer in time, or the agent of another version; CANCELLED
 */
export async function shakeHands(wire: Wire, { kind, timeoutMs, signal }: HandshakeOptions): Promise<void> {
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  using _limit = limitWait({ timeoutMs, signal }, () => reject(unanswered("timed out")), reject);
  let expected = Buffer.alloc(0);
  let tail: Buffer = Buffer.alloc(0);
  let resend: ReturnType<typeof setTimeout> | undefined;

  const greet = (): void => {
    const nonce = crypto.getRandomValues(Buffer.alloc(NONCE_BYTES));
    expected = Buffer.concat([Buffer.from(ANSWER_MAGIC, "latin1"), nonce]);
    wire.write(hello(nonce));
  };
  const greetAgain = (waitMs: number): void => {
    resend = setTimeout(() => {
      // If nobody reads there yet, the earlier hello is still on its way, and more would only pile up.
      if (wire.unsentBytes === 0) {
        wire.write(Buffer.alloc(RESYNC_BYTES));
        greet();
      }
      // Without a limit: a new hello ends the session of the one before, so the wait must outgrow the time that a busy guest needs.
      greetAgain(waitMs * 2);
    }, waitMs);
  };
  let noise = 0;
  wire.read({
    onData: (chunk) => {
      noise += chunk.length;
      if (noise > MOST_NOISE_BYTES) {
        wire.pause();
        reject(unanswered("only noise came"));
        return;
      }
      tail = tail.length === 0 ? chunk : Buffer.concat([tail, chunk]);
      const at = tail.indexOf(expected);
      if (at === -1) {
        // A copy: a view would keep all of the chunk.
        tail = Buffer.from(tail.subarray(-(expected.length - 1)));
        return;
      }
      tail = tail.subarray(at);
      if (tail.length < expected.length + VERSION_BYTES) return;
      const version = tail.readUInt32LE(expected.length);
      wire.pause();
      wire.unread(tail.subarray(expected.length + VERSION_BYTES));
      if (version === AGENT_PROTOCOL) resolve();
      else reject(otherVersion(version));
    },
    onEnd: (why) => reject(unanswered(why)),
  });
  try {
    greet();
    if (kind === "serial") greetAgain(FIRST_RESEND_MS);
    wire.resume();
    await promise;
  } finally {
    clearTimeout(resend);
    wire.read(null);
  }
}

/** Details have the version, by which {@link isOtherVersion} knows it. */
function otherVersion(version: number): BangerError {
  return new BangerError(
    "GUEST_NOT_READY",
    `the guest's agent has protocol version ${version}, this banger has ${AGENT_PROTOCOL}: the VM was started by another version`,
    { details: { agentProtocol: version }, hint: "banger vm restart VM" },
  );
}

/** True for the answer of an agent that no second try makes any younger. */
export const isOtherVersion = (error: BangerError): boolean => error.details?.["agentProtocol"] !== undefined;
