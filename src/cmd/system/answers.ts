/** Asks the two daemons of the installed system who they are. */

import * as v from "valibot";
import { METHODS, type OutputOf } from "../../shared/contract/owner-api.ts";
import { BangerError, isErrno } from "../../shared/errors.ts";
import { ANSWER_LIMIT_BYTES, encodeFrame, FrameDecoder } from "../../shared/contract/frames.ts";
import {
  HELPER_ANSWER_TIMEOUT_MS,
  HELPER_VERBS,
  HELPER_VERSION,
  type HelperInputOf,
  type HelperOutputOf,
  type HelperVerbName,
} from "../../shared/contract/helper-api.ts";
import { isVersion } from "../../shared/version.ts";

/** How long a queue that is full is waited for, and how often it is tried. */
const FULL_QUEUE_MS = 5000;
const FULL_QUEUE_RETRY_MS = 20;
/** What a ping's answer may take; the longest paths fit many times over. */
const PING_LIMIT_BYTES = 64 * 1024;

/** What root believes the owner daemon: nothing of it is text of the owner's choice. */
export type DaemonAnswer = Pick<OutputOf<"system.ping">, "version" | "pid">;

/**
 * Asks the owner daemon, which may answer anything at any length: bounded in bytes and time, followed nowhere else, and
 * taken only if it is a version's. @throws BangerError DAEMON_UNREACHABLE
 */
export async function pingDaemon(socket: string, timeoutMs: number): Promise<DaemonAnswer> {
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
      redirect: "error",
      // A few bytes can unpack to any number.
      decompress: false,
      signal: AbortSignal.timeout(timeoutMs),
    });
    const { result } = JSON.parse(await readBounded(response, PING_LIMIT_BYTES)) as { readonly result: unknown };
    const { version, pid } = v.parse(METHODS["system.ping"].output, result);
    if (!isVersion(version)) throw new Error("the version in the answer is none");
    return { version, pid };
  } catch (thrown) {
    throw unreachable(thrown);
  }
}

async function readBounded(response: Response, limit: number): Promise<string> {
  const chunks: Uint8Array[] = [];
  let length = 0;
  // Leaving the loop hangs up.
  for await (const chunk of response.body ?? []) {
    length += chunk.length;
    if (length > limit) throw new Error(`the answer is longer than ${limit} bytes`);
    chunks.push(chunk);
  }
  return Buffer.concat(chunks).toString("utf8");
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
  const deadline = performance.now() + Math.min(timeoutMs, FULL_QUEUE_MS);
  const timer = setTimeout(() => fail(`nothing within ${timeoutMs / 1000} s`), timeoutMs);
  const decoder = new FrameDecoder(ANSWER_LIMIT_BYTES);
  const connect = async (): Promise<Bun.Socket> =>
    await Bun.connect({
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
    }).catch(async (thrown: unknown) => {
      // So the runtime calls a queue that the owner's connections fill, too, until the helper has taken them.
      if (!isErrno(thrown, "ECONNREFUSED") || performance.now() > deadline) throw thrown;
      await Bun.sleep(FULL_QUEUE_RETRY_MS);
      return await connect();
    });
  const socket = await connect().catch((thrown: unknown) => {
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
