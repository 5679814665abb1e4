/** From a decoded request to an answer: envelope, schema, gates, the act. Nothing of the system is touched before its gate. */

import * as v from "valibot";
import { BangerError, type ErrorCode, isErrno, toBangerError } from "../shared/errors.ts";
import {
  HELPER_VERBS,
  type HelperAnswer,
  type HelperParsedInputOf,
  HelperRequest,
  type HelperVerbName,
} from "../shared/contract/helper-api.ts";
import type { HelperContext } from "./context.ts";
import { enforce } from "./gates.ts";
import { Locks } from "../shared/locks.ts";
import { SystemCallError } from "./sys/libc.ts";
import type { Verb } from "./verb.ts";
import { VERBS } from "./verbs/index.ts";

/** An answer, and what the log says of the call. */
export interface Outcome {
  readonly answer: HelperAnswer;
  /** `ok` or the error's code. */
  readonly outcome: "ok" | ErrorCode;
  /** Null until the envelope was found good. */
  readonly method: string | null;
  readonly op: string | null;
  /** Why it failed: our own words, with nothing of a file's contents. */
  readonly reason: string | null;
}

/** `isRoot`: the caller is root, whose calls go before whatever of the owner's waits. */
export type Dispatch = (request: unknown, isRoot?: boolean) => Promise<Outcome>;

export type Verbs = { readonly [Name in HelperVerbName]: Verb<Name> };

/** A dispatcher with its own locks. It never throws: whatever goes wrong is an answer. */
export function createDispatch(context: HelperContext, verbs: Verbs = VERBS): Dispatch {
  const locks = new Locks();
  return async (request, isRoot = false) => {
    let method: string | null = null;
    let op: string | null = null;
    try {
      const envelope = parse(HelperRequest, request, "request");
      op = envelope.op;
      if (!Object.hasOwn(verbs, envelope.method)) throw new BangerError("INVALID_REQUEST", "there is no such method");
      method = envelope.method;
      const result = await act(verbs, method as HelperVerbName, envelope.params, context, locks, isRoot);
      return { answer: { result }, outcome: "ok", method, op, reason: null };
    } catch (thrown) {
      const error = describe(thrown);
      return {
        answer: { error: { code: error.code, message: error.message } },
        outcome: error.code,
        method,
        op,
        reason: error.message,
      };
    }
  };
}

async function act<Name extends HelperVerbName>(
  verbs: Verbs,
  name: Name,
  params: unknown,
  context: HelperContext,
  locks: Locks,
  isRoot: boolean,
): Promise<unknown> {
  const verb: Verb<Name> = verbs[name];
  const input = parse(HELPER_VERBS[name].input, params, "params") as HelperParsedInputOf<Name>;
  for (const gate of verb.gates) enforce(gate, input);
  const result = await locks.run(verb.lock(input), async () => await verb.run(input, context), isRoot);
  const checked = v.safeParse(HELPER_VERBS[name].output, result);
  if (checked.success) return checked.output;
  throw new BangerError("INTERNAL", `${name} made a result that is not of its schema`);
}

/** Names the field and what was expected there, never what was sent: it may be a file's contents. */
function parse<S extends v.GenericSchema>(schema: S, value: unknown, what: string): v.InferOutput<S> {
  const parsed = v.safeParse(schema, value);
  if (parsed.success) return parsed.output;
  const [issue] = parsed.issues;
  const path = (v.getDotPath(issue) ?? "").slice(0, 80);
  const problem = issue.expected === "never" ? "no such key" : `not ${issue.expected ?? issue.type}`.slice(0, 120);
  throw new BangerError("INVALID_REQUEST", `${what}${path === "" ? "" : `.${path}`}: ${problem}`);
}

/** System calls and tools that failed are FAILED with what failed; only what nobody expected is INTERNAL. */
function describe(thrown: unknown): BangerError {
  if (isErrno(thrown, "ENOSPC") || thrown instanceof BangerError) return toBangerError(thrown);
  if (thrown instanceof SystemCallError || (thrown instanceof Error && "syscall" in thrown)) {
    return new BangerError("FAILED", thrown.message, { cause: thrown });
  }
  return toBangerError(thrown);
}
