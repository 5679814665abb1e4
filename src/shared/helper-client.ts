/** The typed client of the root helper: one connection, one frame each way, per call (`contract/helper-api.ts`). */

import { connect } from "node:net";
import * as v from "valibot";
import { ANSWER_LIMIT_BYTES, encodeFrame, FrameDecoder } from "./contract/frames.ts";
import {
  HELPER_ANSWER_TIMEOUT_MS,
  HELPER_VERBS,
  HELPER_VERSION,
  type HelperInputOf,
  type HelperOutputOf,
  type HelperVerbName,
} from "./contract/helper-api.ts";
import type { OperationId } from "./contract/schemas.ts";
import { BangerError, type ErrorCode, ERROR_TABLE } from "./errors.ts";

/** How long a call waits for room in a queue that the owner's connections fill. */
const FULL_QUEUE_MS = 5000;
const FIRST_RETRY_MS = 20;
const SLOWEST_RETRY_MS = 500;

export interface HelperCallOptions {
  /** How long the helper may take to answer. */
  readonly answerMs?: number;
  /** How long a helper that is being restarted is asked again; default: not at all. */
  readonly restartMs?: number;
  /** The operation that the call belongs to: the same id stands in both logs. */
  readonly op?: OperationId | null;
}

/** The connection ended, or never began, before an answer. */
class ConnectionBroken extends Error {
  /** Whether the helper may have got the request. */
  readonly wasSent: boolean;
  /** What the runtime reports for a queue that is full, and for a socket nobody listens on any more. */
  readonly isRefused: boolean;

  constructor(message: string, wasSent: boolean, isRefused = false) {
    super(message);
    this.wasSent = wasSent;
    this.isRefused = isRefused;
  }
}

/**
 * Asks the helper to do a verb. A call whose connection broke is made again within `restartMs`: every verb but a launch
 * comes to the same when it is done twice.
 * @throws BangerError the helper's own; HELPER_UNREACHABLE, VERSION_MISMATCH
 */
export async function callHelper<V extends HelperVerbName>(
  socketPath: string,
  verb: V,
  input: HelperInputOf<V>,
  { answerMs = HELPER_ANSWER_TIMEOUT_MS, restartMs = 0, op = null }: HelperCallOptions = {},
): Promise<HelperOutputOf<V>> {
  const frame = encodeFrame({ v: HELPER_VERSION, method: verb, params: input, op });
  const start = Date.now();
  for (let waitMs = FIRST_RETRY_MS; ; waitMs = Math.min(waitMs * 2, SLOWEST_RETRY_MS)) {
    try {
      return readAnswer(verb, await exchange(socketPath, frame, answerMs));
    } catch (thrown) {
      if (!(thrown instanceof ConnectionBroken)) throw thrown;
      const patienceMs = Math.max(restartMs, thrown.isRefused ? Math.min(answerMs, FULL_QUEUE_MS) : 0);
      const mayRepeat = !thrown.wasSent || verb !== "priv.launch_firecracker";
      if (!mayRepeat || Date.now() + waitMs > start + patienceMs) {
        throw new BangerError("HELPER_UNREACHABLE", `the root helper did not answer ${verb}: ${thrown.message}`, {
          cause: thrown,
        });
      }
      await Bun.sleep(waitMs);
    }
  }
}

const Answer = v.union([
  v.object({ error: v.object({ code: v.string(), message: v.string() }) }),
  v.object({ result: v.unknown() }),
]);

function readAnswer<V extends HelperVerbName>(verb: V, answer: unknown): HelperOutputOf<V> {
  const mismatch = (issue: string): BangerError =>
    new BangerError("VERSION_MISMATCH", `the root helper's answer to ${verb} is of another form`, {
      details: { verb, issue },
      hint: "sudo banger system restart",
    });
  const whole = v.safeParse(Answer, answer);
  if (!whole.success) throw mismatch(whole.issues[0].message);
  if ("error" in whole.output) {
    const { code, message } = whole.output.error;
    const known = Object.hasOwn(ERROR_TABLE, code) ? (code as ErrorCode) : "FAILED";
    throw new BangerError(known, message, { details: { verb } });
  }
  const parsed = v.safeParse(HELPER_VERBS[verb].output as v.GenericSchema, whole.output.result);
  if (!parsed.success) throw mismatch(parsed.issues[0].message);
  return parsed.output as HelperOutputOf<V>;
}

async function exchange(socketPath: string, frame: Uint8Array, timeoutMs: number): Promise<unknown> {
  return await new Promise((resolve, reject) => {
    const socket = connect({ path: socketPath });
    const decoder = new FrameDecoder(ANSWER_LIMIT_BYTES);
    let wasSent = false;
    const end = (act: () => void): void => {
      clearTimeout(timer);
      socket.removeAllListeners("close");
      socket.destroy();
      act();
    };
    const timer = setTimeout(
      () =>
        end(() =>
          reject(new BangerError("HELPER_UNREACHABLE", `the root helper did not answer within ${timeoutMs / 1000} s`)),
        ),
      timeoutMs,
    );
    socket.once("connect", () => {
      wasSent = true;
      socket.write(frame);
    });
    socket.on("data", (chunk: Buffer) => {
      try {
        const whole = decoder.push(chunk);
        if (whole !== undefined) end(() => resolve(whole.value));
      } catch (thrown) {
        end(() => reject(thrown as Error));
      }
    });
    socket.once("error", ({ message, code }: NodeJS.ErrnoException) =>
      end(() => reject(new ConnectionBroken(message, wasSent, code === "ECONNREFUSED" || code === "EAGAIN"))),
    );
    socket.once("close", () =>
      end(() => reject(new ConnectionBroken("the connection was closed without an answer", wasSent))),
    );
  });
}
