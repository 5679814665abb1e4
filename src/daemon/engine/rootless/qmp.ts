/**
 * QEMU's monitor protocol, one command per connection.
 * Source: QEMU docs/interop/qmp-spec. By hand: a client for streams of events would be more code than one question needs.
 */

import { connect } from "node:net";
import { BangerError } from "../../../shared/errors.ts";

const ANSWER_LIMIT = 1024 * 1024;

/**
 * Sends one command and returns its `return` value.
 * @throws BangerError VMM_FAILED when the monitor doesn't answer within `timeoutMs` or answers with an error;
 * `details.errno` when the connection itself failed.
 */
export async function askMonitor(
  socketPath: string,
  command: { readonly execute: string; readonly arguments?: Readonly<Record<string, unknown>> },
  timeoutMs: number,
): Promise<unknown> {
  return await new Promise((resolve, reject) => {
    const socket = connect(socketPath);
    let buffer = "";
    let answered = false;
    const fail = (why: string, errno?: string): void => {
      if (answered) return;
      answered = true;
      clearTimeout(timer);
      socket.destroy();
      reject(
        new BangerError("VMM_FAILED", `QEMU's monitor (${command.execute}): ${why}`, {
          ...(errno === undefined ? {} : { details: { errno } }),
        }),
      );
    };
    const timer = setTimeout(() => fail(`no answer within ${timeoutMs} ms`), timeoutMs);
    let sent = false;
    const onLine = (line: string): void => {
      const message = JSON.parse(line) as {
        QMP?: unknown;
        return?: unknown;
        error?: { desc?: string };
        event?: string;
      };
      if (message.QMP !== undefined) {
        socket.write(`${JSON.stringify({ execute: "qmp_capabilities" })}\n`);
      } else if (message.event !== undefined) {
        return;
      } else if (message.error !== undefined) {
        fail(message.error.desc ?? "an error without a description");
      } else if (!sent) {
        sent = true;
        socket.write(`${JSON.stringify(command)}\n`);
      } else if (!answered) {
        answered = true;
        clearTimeout(timer);
        socket.end();
        resolve(message.return);
      }
    };
    socket.on("data", (chunk) => {
      buffer += chunk.toString("utf8");
      if (buffer.length > ANSWER_LIMIT) return fail("an answer over 1 MiB");
      try {
        for (let end = buffer.indexOf("\n"); end !== -1; end = buffer.indexOf("\n")) {
          const line = buffer.slice(0, end).trim();
          buffer = buffer.slice(end + 1);
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
