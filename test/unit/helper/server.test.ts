import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { mkdtemp, rm } from "node:fs/promises";
import { connect, type Socket } from "node:net";
import { join } from "node:path";
import type { Outcome } from "../../../src/helper/dispatch.ts";
import { CONNECTION_LIMIT, createHelperServer, type HelperServer } from "../../../src/helper/server.ts";
import { encodeFrame, FrameDecoder } from "../../../src/shared/contract/frames.ts";

const OWNER = 1000;
const STRANGER = 1001;

describe("the helper's server", () => {
  let dir: string;
  let server: HelperServer;
  /** Whose the next connection is. */
  const callers: number[] = [];
  const lines: Readonly<Record<string, unknown>>[] = [];
  let release = Promise.withResolvers<void>();
  let slow = 0;

  beforeEach(async () => {
    dir = await mkdtemp("/tmp/bt-hs-");
    callers.length = 0;
    lines.length = 0;
    release = Promise.withResolvers<void>();
    slow = 0;
    server = createHelperServer({
      ownerUid: OWNER,
      log: (line) => lines.push(line),
      refusalsLoggedEveryMs: 50,
      peerOf: () => ({ uid: callers.shift() ?? -1, pid: 7 }),
      dispatch: async (request): Promise<Outcome> => {
        if (request === "slow") {
          slow++;
          await release.promise;
        }
        return { answer: { result: request }, outcome: "ok", method: null, op: null, reason: null };
      },
    });
    await new Promise<void>((resolve) => server.server.listen(join(dir, "s"), resolve));
  });
  afterEach(async () => {
    release.resolve();
    await server.close();
    await rm(dir, { recursive: true });
  });

  interface Call {
    readonly socket: Socket;
    /** The result, or null when the connection was closed without one. */
    readonly answer: Promise<unknown>;
  }
  /** Connects as that uid; returns when the helper has seen it. */
  async function call(uid: number, request: unknown): Promise<Call> {
    callers.push(uid);
    const socket = connect(join(dir, "s"));
    socket.on("error", () => undefined);
    const chunks: Uint8Array[] = [];
    const answer = new Promise<unknown>((resolve) => {
      socket.on("data", (chunk: Uint8Array) => chunks.push(chunk));
      socket.on("close", () => {
        const bytes = Buffer.concat(chunks);
        const frame = bytes.length === 0 ? undefined : new FrameDecoder().push(bytes);
        resolve(frame === undefined ? null : (frame.value as { result: unknown }).result);
      });
    });
    await new Promise((resolve) => socket.once("connect", resolve));
    if (request !== undefined) socket.write(encodeFrame(request));
    while (callers.length > 0) await Bun.sleep(1);
    return { socket, answer };
  }

  test("answers root while the owner's verbs fill every place of the owner's", async () => {
    const pending = [];
    for (let count = 0; count < CONNECTION_LIMIT; count++) pending.push(await call(OWNER, "slow"));
    while (slow < CONNECTION_LIMIT) await Bun.sleep(1);
    expect(await (await call(OWNER, "one too many")).answer).toBeNull();
    expect(await (await call(0, "root's")).answer).toBe("root's");
    // None of the owner's was answered before.
    expect(lines.map(({ outcome, uid }) => [outcome, uid])).toEqual([
      ["REFUSED", OWNER],
      ["ok", 0],
    ]);
    release.resolve();
    for (const { answer } of pending) expect(await answer).toBe("slow");
    expect(await (await call(OWNER, "again")).answer).toBe("again");
  });

  test("answers root while the owner's connections are silent, however many", async () => {
    const silent = [];
    for (let count = 0; count < 2 * CONNECTION_LIMIT; count++) silent.push(await call(OWNER, undefined));
    expect(await (await call(0, "root's")).answer).toBe("root's");
    for (const { socket } of silent) socket.destroy();
  });

  test("logs refusals that are alike once, and then how many there were", async () => {
    for (let count = 0; count < 20; count++) expect(await (await call(STRANGER, "x")).answer).toBeNull();
    const own = (): typeof lines => lines.filter(({ uid }) => uid === STRANGER);
    while (!own().some(({ repeated }) => repeated !== undefined)) await Bun.sleep(5);
    expect(own().reduce((sum, { repeated }) => sum + Number(repeated ?? 1), 0)).toBeLessThanOrEqual(20);
    expect(own().length).toBeLessThan(20);
    expect(own()[0]).toEqual({ outcome: "NOT_OWNER", uid: STRANGER, pid: 7 });
  });
});
