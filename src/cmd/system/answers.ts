/** Asks the two daemons of the installed system who they are. */

import * as v from "valibot";
import { METHODS, type OutputOf } from "../../shared/contract.ts";
import { BangerError } from "../../shared/errors.ts";
import { ANSWER_LIMIT_BYTES, encodeFrame, FrameDecoder } from "../../shared/frames.ts";
import {
  HELPER_ANSWER_TIMEOUT_MS,
  HELPER_VERBS,
  HELPER_VERSION,
  type HelperInputOf,
  type HelperOutputOf,
  type HelperVerbName,
} from "../../shared/helper-contract.ts";

/** Asks the owner daemon. @throws BangerError DAEMON_UNREACHABLE */
export async function pingDaemon(socket: string, timeoutMs: number): Promise<OutputOf<"system.ping">> {
  const unreachable = (cause: unknown): BangerError =>
    new BangerError("DAEMON_UNREACHABLE", `the owner daemon does not answer on ${socket}`, {
      cause,
      hint: "journalctl -u bangerd.service",
    });
  try {
    const response = await fetch("http://localhost/v1/system.ping", {
      method: "POST",
      body: "{}",
      headers: { "content-type": "application/json" },
      unix: socket,
      signal: AbortSignal.timeout(timeoutMs),
    });
    const { result } = (await response.json()) as { readonly result: unknown };
    return v.parse(METHODS["system.ping"].output, result);
  } catch (thrown) {
    throw unreachable(thrown);
  }
}

/** Calls a verb of the helper. @throws BangerError DAEMON_UNREACHABLE, or what the helper answers */
export async function callHelper<V extends HelperVerbName>(
  socket: string,
  method: V,
  params: HelperInputOf<V>,
  timeoutMs = HELPER_ANSWER_TIMEOUT_MS,
): Promise<HelperOutputOf<V>> {
  const answer = await exchange(socket, { v: HELPER_VERSION, method, params, op: null }, timeoutMs);
  const parsed = v.safeParse(
    v.union([
      v.strictObject({ result: v.unknown() }),
      v.strictObject({ error: v.object({ code: v.string(), message: v.string() }) }),
    ]),
    answer,
  );
  if (!parsed.success) throw new BangerError("VERSION_MISMATCH", "the root helper's answer is not of its contract");
  if ("error" in parsed.output) {
    const { message, code } = parsed.output.error;
    throw new BangerError("HELPER_REFUSED", `the root helper: ${message}`, { details: { code } });
  }
  return v.parse(HELPER_VERBS[method].output, parsed.output.result) as HelperOutputOf<V>;
}

async function exchange(path: string, request: unknown, timeoutMs: number): Promise<unknown> {
  const done = Promise.withResolvers<unknown>();
  const fail = (why: string, cause?: unknown): void =>
    done.reject(
      new BangerError("DAEMON_UNREACHABLE", `the root helper does not answer on ${path}: ${why}`, {
        cause,
        hint: "journalctl -u bangerd-root.service",
      }),
    );
  const timer = setTimeout(() => fail(`nothing within ${timeoutMs / 1000} s`), timeoutMs);
  const decoder = new FrameDecoder(ANSWER_LIMIT_BYTES);
  const socket = await Bun.connect({
    unix: path,
    socket: {
      open: (opened) => void opened.write(encodeFrame(request)),
      data: (_, bytes) => {
        try {
          const frame = decoder.push(bytes);
          if (frame !== undefined) done.resolve(frame.value);
        } catch (thrown) {
          done.reject(thrown);
        }
      },
      close: () => fail("it hung up"),
      error: (_, cause) => fail(cause.message, cause),
    },
  }).catch((thrown: unknown) => {
    clearTimeout(timer);
    done.promise.catch(() => undefined);
    throw new BangerError("DAEMON_UNREACHABLE", `the root helper does not answer on ${path}`, {
      cause: thrown,
      hint: "journalctl -u bangerd-root.service",
    });
  });
  try {
    return await done.promise;
  } finally {
    clearTimeout(timer);
    socket.end();
  }
}
