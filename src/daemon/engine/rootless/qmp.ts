/**
 * QEMU's monitor protocol: one command per connection, and the events that come after it.
 * Source: QEMU docs/interop/qmp-spec. By hand: a client library would be more code than one question needs.
 */

import { connect } from "node:net";
import { BangerError } from "../../../shared/errors.ts";

const ANSWER_LIMIT = 1024 * 1024;

export interface MonitorCommand {
  readonly execute: string;
  readonly arguments?: Readonly<Record<string, unknown>>;
}

/** What comes after the command was sent. */
export type MonitorMessage =
  | { readonly kind: "return"; readonly value: unknown }
  | { readonly kind: "event"; readonly name: string; readonly data: unknown };

/**
 * Sends one command and returns its `return` value.
 * @throws BangerError VMM_FAILED when the monitor doesn't answer within `timeoutMs` or answers with an error;
 * `details.errno` when the connection itself failed.
 */
export async function askMonitor(socketPath: string, command: MonitorCommand, timeoutMs: number): Promise<unknown> {
  return await watchMonitor(socketPath, command, { timeoutMs }, (message) =>
    message.kind === "return" ? { result: message.value } : null,
  );
}

/**
 * Sends one command and gives its answer, and each event from then on, to `take`, until that has a result.
 * @throws BangerError like {@link askMonitor}; CANCELLED
 */
export async function watchMonitor<T>(
  socketPath: string,
  command: MonitorCommand,
  { timeoutMs, signal }: { readonly timeoutMs: number; readonly signal?: AbortSignal },
  take: (message: MonitorMessage) => { readonly result: T } | null,
): Promise<T> {
  return await new Promise((resolve, reject) => {
    const socket = connect(socketPath);
    let buffer = "";
    let isOver = false;
    const end = (): boolean => {
      if (isOver) return false;
      isOver = true;
      clearTimeout(timer);
      signal?.removeEventListener("abort", onAbort);
      return true;
    };
    const stop = (error: BangerError): void => {
      if (!end()) return;
      socket.destroy();
      reject(error);
    };
    const fail = (why: string, errno?: string): void => {
      const details = errno === undefined ? {} : { details: { errno } };
      stop(new BangerError("VMM_FAILED", `QEMU's monitor (${command.execute}): ${why}`, details));
    };
    const onAbort = (): void => stop(new BangerError("CANCELLED", "cancelled", { cause: signal?.reason }));
    const timer = setTimeout(() => fail(`no answer within ${timeoutMs} ms`), timeoutMs);
    signal?.addEventListener("abort", onAbort);
    if (signal?.aborted === true) onAbort();
    const offer = (message: MonitorMessage): void => {
      if (isOver) return;
      const taken = take(message);
      if (taken === null) return;
      end();
      socket.end();
      resolve(taken.result);
    };
    let sent = false;
    const onLine = (line: string): void => {
      const message = JSON.parse(line) as {
        QMP?: unknown;
        return?: unknown;
        error?: { desc?: string };
        event?: string;
        data?: unknown;
      };
      if (message.QMP !== undefined) {
        socket.write(`${JSON.stringify({ execute: "qmp_capabilities" })}\n`);
      } else if (message.event !== undefined) {
        offer({ kind: "event", name: message.event, data: message.data });
      } else if (message.error !== undefined) {
        fail(message.error.desc ?? "an error without a description");
      } else if (!sent) {
        sent = true;
        socket.write(`${JSON.stringify(command)}\n`);
      } else {
        offer({ kind: "return", value: message.return });
      }
    };
    socket.on("data", (chunk) => {
      buffer += chunk.toString("utf8");
      if (buffer.length > ANSWER_LIMIT) return fail("an answer over 1 MiB");
      try {
        for (let at = buffer.indexOf("\n"); at !== -1; at = buffer.indexOf("\n")) {
          const line = buffer.slice(0, at).trim();
          buffer = buffer.slice(at + 1);
          if (line !== "") onLine(line);
        }
      } catch (thrown) {
        fail(`not JSON: ${String(thrown)}`);
      }
    });
    socket.on("error", (error: NodeJS.ErrnoException) => fail(error.message, error.code));
    socket.on("close", () => fail("the connection was closed"));
  });
}
