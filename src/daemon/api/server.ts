/**
 * The owner API: HTTP/1.1 on a unix socket. `node:net` accepts, the peer is checked, and only then does the
 * HTTP server get the connection.
 */

import { chmodSync } from "node:fs";
import { rm } from "node:fs/promises";
import { createServer as createHttpServer, type IncomingMessage, type ServerResponse } from "node:http";
import { createServer, type Server, type Socket } from "node:net";
import * as v from "valibot";
import { API_LEVEL, METHODS, type MethodName, type StreamEvent } from "../../shared/contract/owner-api.ts";
import { BangerError, type ErrorDocument, exitStatusOf, toBangerError } from "../../shared/errors.ts";
import { isListening } from "../../shared/places/listening.ts";
import { VERSION } from "../../shared/version.ts";
import type { Handlers } from "./handlers.ts";
import type { Log } from "../log.ts";
import { newOperationId, type Operations } from "./operations.ts";
import { withOperation } from "../engine/system/privileged.ts";
import { readPeerCredentials } from "../host/system-calls.ts";

const BODY_LIMIT_BYTES = 1024 * 1024;
const BODY_TIMEOUT_MS = 10_000;
/** How long connections that were accepted before a close may take to ask and be answered. */
const LAST_ANSWERS_MS = 250;

export interface ApiServer {
  close(): Promise<void>;
}

/**
 * Listens at a path whose directory is private already, or on a descriptor that a service manager listens on. A path left
 * by a daemon that was killed is taken over; the caller holds the lock that makes sure that no live one is there.
 */
export async function serveApi(
  at: { readonly path: string } | { readonly fd: number },
  handlers: Handlers,
  operations: Operations,
  log: Log,
  bodyTimeoutMs = BODY_TIMEOUT_MS,
): Promise<ApiServer> {
  if ("path" in at) {
    if (await isListening(at.path))
      throw new BangerError("ALREADY_EXISTS", `another daemon already listens on ${at.path}`);
    await rm(at.path, { force: true });
  }
  const http = createHttpServer({ keepAliveTimeout: 5000 }, (request, response) => {
    void answer(request, response, handlers, operations, log, bodyTimeoutMs);
  });
  const sockets = new Set<Socket>();
  const owner = process.getuid?.() ?? -1;
  const server: Server = createServer((socket) => {
    const peer = readPeerCredentials(socket);
    if (peer === null || (peer.uid !== owner && peer.uid !== 0)) {
      log.warn("connection refused", { peer });
      socket.destroy();
      return;
    }
    sockets.add(socket);
    socket.on("close", () => sockets.delete(socket));
    http.emit("connection", socket);
  });
  await new Promise<void>((resolve, reject) => {
    server.once("error", reject);
    server.listen(at, resolve);
  });
  // The umask of 077 already made it so; this line only says so to whoever reads.
  if ("path" in at) chmodSync(at.path, 0o600);
  return {
    close: async () => {
      const closed = new Promise<void>((resolve) => server.close(() => resolve()));
      // A connection taken a moment ago still gets its answer: its caller was promised that it only waits.
      await Bun.sleep(LAST_ANSWERS_MS);
      for (const socket of sockets) socket.end();
      setTimeout(() => {
        for (const socket of sockets) socket.destroy();
      }, 200).unref();
      await closed;
    },
  };
}

async function answer(
  request: IncomingMessage,
  response: ServerResponse,
  handlers: Handlers,
  operations: Operations,
  log: Log,
  bodyTimeoutMs: number,
): Promise<void> {
  const op = newOperationId();
  response.setHeader("banger-op", op);
  response.setHeader("banger-version", VERSION);
  response.setHeader("banger-api-level", API_LEVEL);
  try {
    const name = parseTarget(request);
    const body = await readBody(request, bodyTimeoutMs);
    const method = METHODS[name];
    const parsed = v.safeParse(method.input as v.GenericSchema, body);
    if (!parsed.success) {
      const issue = parsed.issues[0];
      const where = v.getDotPath(issue);
      const code =
        where === "name" && (name === "vm.create" || name.startsWith("vm.")) ? "INVALID_NAME" : "INVALID_REQUEST";
      throw new BangerError(code, `${name}: ${where === null ? "" : `${where}: `}${issue.message}`);
    }
    const handler = handlers[name] as (input: unknown, context: unknown) => Promise<unknown>;
    if ("stream" in method && method.stream === true) {
      stream(
        request,
        response,
        operations,
        op,
        name,
        async (context) => check(name, await handler(parsed.output, context)),
        parsed.output,
      );
      return;
    }
    const abort = new AbortController();
    response.on("close", () => abort.abort());
    const began = performance.now();
    const result = check(
      name,
      await withOperation(op, () =>
        handler(parsed.output, { op, signal: abort.signal, progress: () => undefined, data: () => undefined }),
      ),
    );
    if (name !== "system.ping" && name !== "vm.list")
      log.info("request", { op, method: name, ms: Math.round(performance.now() - began) });
    sendJson(response, 200, { result });
  } catch (thrown) {
    const error = toBangerError(thrown, op);
    log.warn("request failed", {
      op,
      target: request.url,
      code: error.code,
      error: error.message,
      ...(error.code === "INTERNAL" && error.cause instanceof Error ? { stack: error.cause.stack } : {}),
    });
    sendJson(response, httpStatus(error), { error: error.toDocument() });
  }
}

/** A result that doesn't match its own schema is our bug and must not reach a client. */
function check(name: MethodName, result: unknown): unknown {
  const parsed = v.safeParse(METHODS[name].output as v.GenericSchema, result);
  if (parsed.success) return parsed.output;
  throw new BangerError(
    "INTERNAL",
    `${name}'s result does not match its schema: ${v.getDotPath(parsed.issues[0]) ?? ""} ${parsed.issues[0].message}`,
  );
}

function parseTarget(request: IncomingMessage): MethodName {
  // A web page can make a browser send requests; browsers name where they come from.
  if (request.headers.origin !== undefined || request.headers.referer !== undefined) {
    throw new BangerError("NOT_OWNER", "requests from web pages are refused");
  }
  const name = /^\/v1\/([A-Za-z.]+)$/.exec(request.url ?? "")?.[1];
  if (request.method !== "POST" || name === undefined || !Object.hasOwn(METHODS, name)) {
    throw new BangerError("INVALID_REQUEST", `there is no ${request.method} ${request.url}`);
  }
  return name as MethodName;
}

async function readBody(request: IncomingMessage, timeoutMs: number): Promise<unknown> {
  const chunks: Buffer[] = [];
  let size = 0;
  const timer = setTimeout(() => request.destroy(), timeoutMs);
  try {
    for await (const chunk of request as AsyncIterable<Buffer>) {
      size += chunk.length;
      if (size > BODY_LIMIT_BYTES) throw new BangerError("INVALID_REQUEST", "the request is larger than 1 MiB");
      chunks.push(chunk);
    }
  } finally {
    clearTimeout(timer);
  }
  if (size === 0) return {};
  try {
    return JSON.parse(Buffer.concat(chunks).toString("utf8"));
  } catch {
    throw new BangerError("INVALID_REQUEST", "the request is not JSON");
  }
}

function stream(
  request: IncomingMessage,
  response: ServerResponse,
  operations: Operations,
  op: ReturnType<typeof newOperationId>,
  name: MethodName,
  work: Parameters<Operations["begin"]>[2],
  input: unknown,
): void {
  // Watching is no operation of its own: it joins one.
  const watched = name === "operation.watch" ? (input as { id: string }).id : op;
  if (name !== "operation.watch") operations.begin(name, op, work);
  let ended = false;
  const send = (event: StreamEvent): void => {
    if (ended) return;
    if (!response.headersSent) response.writeHead(200, { "content-type": "application/x-ndjson" });
    response.write(`${JSON.stringify(event)}\n`);
    if (event.event === "result" || event.event === "error") {
      ended = true;
      response.end();
    }
  };
  const unwatch = operations.watch(watched, send);
  const detached = request.headers["banger-detach"] === "1" || name === "operation.watch";
  response.on("close", () => {
    unwatch();
    if (!ended && !detached) operations.cancel(op);
  });
}

function sendJson(
  response: ServerResponse,
  status: number,
  body: { readonly result: unknown } | { readonly error: ErrorDocument },
): void {
  if (response.headersSent) {
    response.destroy();
    return;
  }
  const text = JSON.stringify(body);
  response.writeHead(status, { "content-type": "application/json", "content-length": Buffer.byteLength(text) });
  response.end(text);
}

function httpStatus(error: BangerError): number {
  if (error.code === "NOT_OWNER") return 403;
  const exit = exitStatusOf(error.code);
  if (exit === 2) return 400;
  if (exit === 20) return 404;
  return exit >= 20 && exit < 30 ? 409 : 500;
}
