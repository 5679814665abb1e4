/** The typed client of the root helper: one connection, one frame each way, per call (`src/shared/contract/helper-api.ts`). */

import { AsyncLocalStorage } from "node:async_hooks";
import { connect } from "node:net";
import * as v from "valibot";
import { BangerError, type ErrorCode, ERROR_TABLE } from "../../../shared/errors.ts";
import { ANSWER_LIMIT_BYTES, encodeFrame, FrameDecoder } from "../../../shared/contract/frames.ts";
import {
  HELPER_ANSWER_TIMEOUT_MS,
  HELPER_VERBS,
  HELPER_VERSION,
  type HelperInputOf,
  type HelperOutputOf,
  type HelperVerbName,
} from "../../../shared/contract/helper-api.ts";
import type { OperationId } from "../../../shared/contract/schemas.ts";

/** How long a call goes on asking a helper that is being restarted. */
const PATIENCE_MS = 20_000;
const FIRST_RETRY_MS = 20;
const SLOWEST_RETRY_MS = 500;

export interface Privileged {
  /**
   * Asks the helper to do a verb. While it is being restarted the call waits, and a call whose connection broke is made
   * again: every verb but a launch comes to the same when it is done twice.
   * @throws BangerError the helper's own; HELPER_UNREACHABLE
   */
  call<V extends HelperVerbName>(verb: V, input: HelperInputOf<V>): Promise<HelperOutputOf<V>>;
}

const operation = new AsyncLocalStorage<OperationId>();

/** Runs `work` so that what it asks of the helper carries the operation's id: the same id stands in both logs. */
export function withOperation<T>(op: OperationId, work: () => T): T {
  return operation.run(op, work);
}

/** The connection ended, or never began, before an answer. */
class ConnectionBroken extends Error {
  /** Whether the helper may have got the request. */
  readonly wasSent: boolean;

  constructor(message: string, wasSent: boolean) {
    super(message);
    this.wasSent = wasSent;
  }
}

export function createPrivileged(
  socketPath: string,
  timeouts: { readonly patienceMs: number; readonly answerMs: number } = {
    patienceMs: PATIENCE_MS,
    answerMs: HELPER_ANSWER_TIMEOUT_MS,
  },
): Privileged {
  return {
    call: async (verb, input) => {
      const frame = encodeFrame({ v: HELPER_VERSION, method: verb, params: input, op: operation.getStore() ?? null });
      const deadline = Date.now() + timeouts.patienceMs;
      for (let waitMs = FIRST_RETRY_MS; ; waitMs = Math.min(waitMs * 2, SLOWEST_RETRY_MS)) {
        try {
          return readAnswer(verb, await exchange(socketPath, frame, timeouts.answerMs));
        } catch (thrown) {
          if (!(thrown instanceof ConnectionBroken)) throw thrown;
          const mayRepeat = !thrown.wasSent || verb !== "priv.launch_firecracker";
          if (!mayRepeat || Date.now() + waitMs > deadline) {
            throw new BangerError("HELPER_UNREACHABLE", `the root helper did not answer ${verb}: ${thrown.message}`, {
              cause: thrown,
            });
          }
          await Bun.sleep(waitMs);
        }
      }
    },
  };
}

function readAnswer<V extends HelperVerbName>(verb: V, answer: unknown): HelperOutputOf<V> {
  const { result, error } = (answer ?? {}) as {
    readonly result?: unknown;
    readonly error?: { readonly code?: unknown; readonly message?: unknown };
  };
  if (error !== undefined) {
    const code = typeof error.code === "string" && Object.hasOwn(ERROR_TABLE, error.code) ? error.code : "FAILED";
    throw new BangerError(code as ErrorCode, String(error.message ?? "no reason given"), { details: { verb } });
  }
  const parsed = v.safeParse(HELPER_VERBS[verb].output as v.GenericSchema, result);
  if (parsed.success) return parsed.output as HelperOutputOf<V>;
  throw new BangerError("VERSION_MISMATCH", `the root helper's answer to ${verb} is of another form`, {
    details: { verb, issue: parsed.issues[0].message },
    hint: "sudo banger system restart",
  });
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
    const broken = (why: string): void => end(() => reject(new ConnectionBroken(why, wasSent)));
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
    socket.once("error", (error) => broken(error.message));
    socket.once("close", () => broken("the connection was closed without an answer"));
  });
}
