/** The daemon's way to the root helper: patient while the helper is restarted, with the operation's id in each request. */

import { AsyncLocalStorage } from "node:async_hooks";
import {
  HELPER_ANSWER_TIMEOUT_MS,
  type HelperInputOf,
  type HelperOutputOf,
  type HelperVerbName,
} from "../../../shared/contract/helper-api.ts";
import type { OperationId } from "../../../shared/contract/schemas.ts";
import { callHelper } from "../../../shared/helper-client.ts";

/** How long a call goes on asking a helper that is being restarted. */
const PATIENCE_MS = 20_000;

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

export function createPrivileged(
  socketPath: string,
  timeouts: { readonly patienceMs: number; readonly answerMs: number } = {
    patienceMs: PATIENCE_MS,
    answerMs: HELPER_ANSWER_TIMEOUT_MS,
  },
): Privileged {
  return {
    call: async (verb, input) =>
      await callHelper(socketPath, verb, input, {
        answerMs: timeouts.answerMs,
        restartMs: timeouts.patienceMs,
        op: operation.getStore() ?? null,
      }),
  };
}
