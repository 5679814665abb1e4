/** Asks an owner daemon who it is, without believing a word too much. */

import * as v from "valibot";
import { METHODS, type OutputOf } from "../../shared/contract/owner-api.ts";
import { BangerError } from "../../shared/errors.ts";
import { isVersion } from "../../shared/version.ts";

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
    if (!isVersion(version)) throw new Error("the answer contains no valid version");
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
