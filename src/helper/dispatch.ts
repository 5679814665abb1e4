/**
 * Turns a decoded request into an answer: envelope, schema, gates, the verb. Nothing on the system is touched before
 * the gates pass.
 */

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

/** An answer, and what the log records about the call. */
export interface Outcome {
  readonly answer: HelperAnswer;
  /** `ok` or the error's code. */
  readonly outcome: "ok" | ErrorCode;
  /** Null until the envelope is valid. */
  readonly method: string | null;
  readonly op: string | null;
  /** Why it failed, in our own words and never with a file's contents. */
  readonly reason: string | null;
}

/** `isRoot`: the caller is root, whose calls run before waiting calls of the owner. */
export type Dispatch = (request: unknown, isRoot?: boolean) => Promise<Outcome>;

export type Verbs = { readonly [Name in HelperVerbName]: Verb<Name> };

/** Makes a dispatcher with its own locks. It never throws: every failure becomes an answer. */
export function createDispatch(context: HelperContext, verbs: Verbs = VERBS): Dispatch {
  const locks = new Locks();
  return async (request, isRoot = false) => {
    let method: string | null = null;
    let op: string | null = null;
    try {
      const envelope = parse(HelperRequest, request, "request");
      op = envelope.op;
      if (!Object.hasOwn(verbs, envelope.method)) throw new BangerError("INVALID_REQUEST", "no such method");
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
  throw new BangerError("INTERNAL", `the result of ${name} doesn't match its schema`);
}

/** Names the field and what was expected there, never the value sent, which may be a file's contents. */
function parse<S extends v.GenericSchema>(schema: S, value: unknown, what: string): v.InferOutput<S> {
  const parsed = v.safeParse(schema, value);
  if (parsed.success) return parsed.output;
  const [issue] = parsed.issues;
  const path = (v.getDotPath(issue) ?? "").slice(0, 80);
  const problem = issue.expected === "never" ? "no such key" : `not ${issue.expected ?? issue.type}`.slice(0, 120);
  throw new BangerError("INVALID_REQUEST", `${what}${path === "" ? "" : `.${path}`}: ${problem}`);
}

/** A failed system call or tool is FAILED, with its details. Only unexpected failures are INTERNAL. */
function describe(thrown: unknown): BangerError {
  if (isErrno(thrown, "ENOSPC") || thrown instanceof BangerError) return toBangerError(thrown);
  if (thrown instanceof SystemCallError || (thrown instanceof Error && "syscall" in thrown)) {
    return new BangerError("FAILED", thrown.message, { cause: thrown });
  }
  return toBangerError(thrown);
}
