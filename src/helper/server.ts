/**
 * The helper's socket. Each connection's peer is checked by uid, sends one bounded request in time, gets one answer,
 * and is closed. One log line per connection.
 */

import { createServer, type Server, type Socket } from "node:net";
import { toBangerError } from "../shared/errors.ts";
import { ANSWER_LIMIT_BYTES, encodeFrame, FrameDecoder } from "../shared/contract/frames.ts";
import { HELPER_REQUEST_TIMEOUT_MS, type HelperAnswer } from "../shared/contract/helper-api.ts";
import type { Dispatch } from "./dispatch.ts";
import { type Peer, readPeer } from "./sys/sockets.ts";

/**
 * More connections of one uid at a time are closed at once, so that a flood costs no memory. Counting by uid keeps the
 * owner's silent or waiting connections from using up root's.
 */
export const CONNECTION_LIMIT = 64;
/** Equal refusals are logged once in this time, because the owner or any other user can cause thousands a second. */
const REFUSALS_LOGGED_EVERY_MS = 1000;
/** An answer that isn't read within this time is dropped and its connection closed. */
const ANSWER_TIMEOUT_MS = 5000;
const REASON_LIMIT = 300;

export type WriteLine = (fields: Readonly<Record<string, unknown>>) => void;

export interface HelperServerOptions {
  readonly ownerUid: number;
  readonly dispatch: Dispatch;
  readonly log: WriteLine;
  readonly requestTimeoutMs?: number;
  readonly refusalsLoggedEveryMs?: number;
  /** How to read the peer: from the kernel, except in tests that act as another user. */
  readonly peerOf?: (socket: Socket) => Peer;
}

export interface HelperServer {
  /** The server, not yet listening. */
  readonly server: Server;
  /** Accepts no more connections and waits for running verbs. */
  close(): Promise<void>;
}

export function createHelperServer(options: HelperServerOptions): HelperServer {
  const open = new Set<Socket>();
  const running = new Map<number, Set<Promise<void>>>();
  const refuse = refusalLog(options);
  // Half-open: a client may end its side after the request and still read the answer.
  const server = createServer({ allowHalfOpen: true }, (socket) => {
    // Without a listener, a connection reset would end the process.
    socket.on("error", () => socket.destroy());
    let peer: Peer;
    try {
      peer = (options.peerOf ?? readPeer)(socket);
    } catch (thrown) {
      refuse({ outcome: "NOT_OWNER", reason: toBangerError(thrown).message });
      socket.destroy();
      return;
    }
    // Checks the uid, never the name. Sends no answer, so that another user learns nothing, not even that the helper is
    // listening.
    if (peer.uid !== 0 && peer.uid !== options.ownerUid) {
      refuse({ outcome: "NOT_OWNER", ...peer });
      socket.destroy();
      return;
    }
    // Running verbs count even after their caller has left: a caller that hangs up at once can't pile them up.
    const own = running.get(peer.uid) ?? new Set();
    running.set(peer.uid, own);
    if (own.size >= CONNECTION_LIMIT) {
      refuse({ outcome: "REFUSED", reason: "too many connections", ...peer });
      socket.destroy();
      return;
    }
    open.add(socket);
    socket.once("close", () => open.delete(socket));
    const served = serve(socket, peer, options).finally(() => own.delete(served));
    own.add(served);
  });
  return {
    server,
    close: async () => {
      const closed = new Promise<void>((resolve) => server.close(() => resolve()));
      await Promise.all([...running.values()].flatMap((served) => [...served]));
      for (const socket of open) socket.destroy();
      await closed;
    },
  };
}

/** Logs the first refusal of a kind at once, and the number of repeats when the time is over. */
function refusalLog({
  log,
  refusalsLoggedEveryMs = REFUSALS_LOGGED_EVERY_MS,
}: HelperServerOptions): (fields: { readonly outcome: string; readonly reason?: string } & Partial<Peer>) => void {
  const more = new Map<string, number>();
  return ({ outcome, reason, uid, pid }) => {
    const kind = JSON.stringify([outcome, reason, uid]);
    const count = more.get(kind);
    if (count !== undefined) {
      more.set(kind, count + 1);
      return;
    }
    const fields = { outcome, ...(reason === undefined ? {} : { reason }), ...(uid === undefined ? {} : { uid }) };
    log({ ...fields, ...(pid === undefined ? {} : { pid }) });
    more.set(kind, 0);
    setTimeout(() => {
      const repeated = more.get(kind) ?? 0;
      more.delete(kind);
      if (repeated > 0) log({ ...fields, repeated });
    }, refusalsLoggedEveryMs).unref();
  };
}

async function serve(
  socket: Socket,
  peer: Peer,
  { dispatch, log, requestTimeoutMs }: HelperServerOptions,
): Promise<void> {
  const began = performance.now();
  const line = (fields: Readonly<Record<string, unknown>>): void => {
    log({ ...fields, ...peer, ms: Math.round(performance.now() - began) });
  };
  let request: { readonly value: unknown } | null;
  try {
    request = await readRequest(socket, requestTimeoutMs ?? HELPER_REQUEST_TIMEOUT_MS);
  } catch (thrown) {
    const { code, message } = toBangerError(thrown);
    line({ op: null, method: null, outcome: code, reason: message });
    await answer(socket, { error: { code, message } });
    return;
  }
  if (request === null) {
    line({ op: null, method: null, outcome: "INVALID_REQUEST", reason: "no complete request arrived" });
    socket.destroy();
    return;
  }
  const { answer: result, outcome, method, op, reason } = await dispatch(request.value, peer.uid === 0);
  line({ op, method, outcome, ...(reason === null ? {} : { reason: reason.slice(0, REASON_LIMIT) }) });
  await answer(socket, result);
}

/** Reads the first frame; null if the peer left or took too long. @throws BangerError INVALID_REQUEST */
async function readRequest(socket: Socket, timeoutMs: number): Promise<{ readonly value: unknown } | null> {
  const decoder = new FrameDecoder();
  const { promise, resolve, reject } = Promise.withResolvers<{ readonly value: unknown } | null>();
  // Runs from the connection to the complete frame: sending a byte now and then doesn't extend it.
  const timer = setTimeout(() => resolve(null), timeoutMs);
  const onData = (chunk: Uint8Array): void => {
    try {
      const frame = decoder.push(chunk);
      if (frame !== undefined) resolve(frame);
    } catch (thrown) {
      reject(thrown);
    }
  };
  const onEnd = (): void => resolve(null);
  socket.on("data", onData);
  socket.once("end", onEnd);
  socket.once("close", onEnd);
  try {
    return await promise;
  } finally {
    clearTimeout(timer);
    socket.off("data", onData);
    socket.off("end", onEnd);
    socket.off("close", onEnd);
    // Discards further bytes unread, so that the end of the connection is noticed.
    socket.resume();
  }
}

/** Sends the answer and closes the connection in time, whatever the peer does. */
async function answer(socket: Socket, value: HelperAnswer): Promise<void> {
  if (socket.destroyed) return;
  let frame: Uint8Array;
  try {
    frame = encodeFrame(value, ANSWER_LIMIT_BYTES);
  } catch (thrown) {
    frame = encodeFrame({ error: { code: "FAILED", message: `the answer: ${toBangerError(thrown).message}` } });
  }
  const { promise: closed, resolve } = Promise.withResolvers<void>();
  const timer = setTimeout(() => socket.destroy(), ANSWER_TIMEOUT_MS);
  socket.once("close", () => resolve());
  socket.end(frame, () => socket.destroy());
  await closed;
  clearTimeout(timer);
}
