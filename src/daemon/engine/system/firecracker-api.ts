/**
 * Firecracker's API: HTTP on a unix socket in the VM's jail, one connection for all requests of a session. What answers may
 * be a hostile VMM: answers are bounded, and late ones are no answers. Source: Firecracker src/firecracker/swagger/firecracker.yaml.
 */

import { Agent, request } from "node:http";
import { BangerError } from "../../../shared/errors.ts";
import { JAIL } from "../../../shared/contract/helper-api.ts";
import { openJailSocket } from "../../../shared/jail.ts";

const ANSWER_LIMIT_BYTES = 64 * 1024;
/** Emulated two levels deep, an InstanceStart with a large initrd takes seconds. */
const ANSWER_TIMEOUT_MS = 30_000;

/** A session: to be disposed of when its last request is answered. */
export interface FirecrackerApi extends Disposable {
  /** @throws BangerError VMM_FAILED with the VMM's reason, or when it doesn't answer */
  put(path: string, body: unknown): Promise<void>;
  get(path: string): Promise<unknown>;
}

/** @throws BangerError VMM_FAILED when there is no socket to ask at. Nothing is sent yet. */
export function openFirecrackerApi(jailRoot: string, timeoutMs = ANSWER_TIMEOUT_MS): FirecrackerApi {
  const socket = (() => {
    try {
      return openJailSocket(jailRoot, JAIL.apiSocket);
    } catch (cause) {
      throw new BangerError("VMM_FAILED", `Firecracker's API: ${(cause as Error).message}`, { cause });
    }
  })();
  // Of this session alone: the next VM's socket may get this one's short name, but never its connection.
  const agent = new Agent({ keepAlive: true, maxSockets: 1 });
  const session = { socketPath: socket.path, agent, timeoutMs };
  return {
    put: async (path, body) => {
      await send(session, "PUT", path, JSON.stringify(body));
    },
    get: async (path) => {
      const text = await send(session, "GET", path, null);
      try {
        return JSON.parse(text);
      } catch (cause) {
        throw new BangerError("VMM_FAILED", `Firecracker's answer to GET ${path} is not JSON`, { cause });
      }
    },
    [Symbol.dispose]: () => {
      agent.destroy();
      socket[Symbol.dispose]();
    },
  };
}

async function send(
  { socketPath, agent, timeoutMs }: { readonly socketPath: string; readonly agent: Agent; readonly timeoutMs: number },
  method: "GET" | "PUT",
  path: string,
  body: string | null,
): Promise<string> {
  const failed = (why: string, cause?: unknown): BangerError =>
    new BangerError("VMM_FAILED", `Firecracker's API, ${method} ${path}: ${why}`, { cause });
  const { status, text } = await new Promise<{ readonly status: number; readonly text: string }>((resolve, reject) => {
    const timer = setTimeout(() => outgoing.destroy(new Error(`no answer within ${timeoutMs / 1000} s`)), timeoutMs);
    const settle = (act: () => void): void => {
      clearTimeout(timer);
      act();
    };
    const outgoing = request(
      {
        socketPath,
        method,
        path,
        agent,
        headers: {
          host: "localhost",
          accept: "application/json",
          ...(body === null
            ? {}
            : { "content-type": "application/json", "content-length": String(Buffer.byteLength(body)) }),
        },
      },
      (incoming) => {
        const chunks: Buffer[] = [];
        let size = 0;
        incoming.on("data", (chunk: Buffer) => {
          size += chunk.length;
          if (size > ANSWER_LIMIT_BYTES) outgoing.destroy(new Error(`an answer over ${ANSWER_LIMIT_BYTES} bytes`));
          else chunks.push(chunk);
        });
        incoming.on("end", () =>
          settle(() => resolve({ status: incoming.statusCode ?? 0, text: Buffer.concat(chunks).toString("utf8") })),
        );
        incoming.on("error", (error) => settle(() => reject(failed(error.message, error))));
      },
    );
    outgoing.on("error", (error) => settle(() => reject(failed(error.message, error))));
    outgoing.end(body ?? undefined);
  });
  if (status >= 200 && status < 300) return text;
  throw failed(`${status}: ${faultMessage(text)}`);
}

/** The reason in an error's body, `{"fault_message": …}`; the body itself, shortened, when it has none. */
function faultMessage(text: string): string {
  try {
    const { fault_message: message } = JSON.parse(text) as { fault_message?: unknown };
    if (typeof message === "string") return message.slice(0, 1000);
  } catch {
    // Not JSON: shown as it is.
  }
  return text.slice(0, 200);
}
