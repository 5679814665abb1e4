import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { mkdtemp, rm } from "node:fs/promises";
import { createServer, type Server, type Socket } from "node:net";
import { join } from "node:path";
import { pingDaemon } from "../../../../src/cmd/daemon/ping.ts";
import { API_LEVEL } from "../../../../src/shared/contract/owner-api.ts";

const PING = {
  version: "1.2.3",
  apiLevel: API_LEVEL,
  minimumApiLevel: API_LEVEL,
  mode: "system",
  pid: 7,
  uid: 1000,
  startedAt: "2026-01-01T00:00:00.000Z",
  stateDir: "/var/lib/banger/owner",
  runtimeDir: "/run/banger/owner",
};

describe("root's ping of the owner's daemon", () => {
  let dir: string;
  let server: Server;
  let answer: (socket: Socket) => void;
  let asked = 0;

  beforeEach(async () => {
    dir = await mkdtemp("/tmp/bt-ping-");
    asked = 0;
    server = createServer((socket) => {
      socket.on("error", () => undefined);
      socket.once("data", () => {
        asked++;
        answer(socket);
      });
    });
    await new Promise<void>((resolve) => server.listen(join(dir, "s"), resolve));
  });
  afterEach(async () => {
    server.close();
    await rm(dir, { recursive: true });
  });

  const say = (head: string, body: string | Uint8Array) => (socket: Socket) => {
    socket.write(`HTTP/1.1 ${head}\r\ncontent-type: application/json\r\ncontent-length: ${body.length}\r\n\r\n`);
    socket.end(body);
  };
  const result = (value: unknown): ((socket: Socket) => void) => say("200 OK", JSON.stringify({ result: value }));
  const ping = async () => await pingDaemon(join(dir, "s"), 20_000);
  /** Writes the same again and again until the other side has had enough. */
  const flood = (first: string, then: string) => (socket: Socket) => {
    socket.write(first);
    const more = (): void => {
      while (socket.writable && socket.write(then));
      socket.once("drain", more);
    };
    more();
  };

  test("takes a version and a pid, and nothing else of it", async () => {
    answer = result(PING);
    expect(await ping()).toEqual({ version: "1.2.3", pid: 7 });
  });

  test.each([
    ["a version that steers the terminal", result({ ...PING, version: "\u001b[31m1.2.3" })],
    ["a version of two lines", result({ ...PING, version: "1.2.3\n4.5.6" })],
    ["a version that is a page", result({ ...PING, version: `1.2.3-${"x".repeat(4000)}` })],
    ["what is no ping", result({ version: "1.2.3" })],
    ["an error", say("500 No", JSON.stringify({ error: { code: "\u001b[2J", message: "\u001b[2J" } }))],
    ["no JSON", say("200 OK", "\u001b[2J")],
    ["a body without end", flood("HTTP/1.1 200 OK\r\n\r\n", " ".repeat(65_536))],
    [
      "chunks without end",
      flood("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n", `ffff\r\n${" ".repeat(0xffff)}\r\n`),
    ],
    ["headers without end", flood("HTTP/1.1 200 OK\r\n", `x: ${"y".repeat(65_536)}\r\n`)],
    ["a redirect", say("307 There\r\nlocation: /v1/system.ping", "")],
    [
      "a body that unpacks to more than it should",
      (socket: Socket) => {
        const packed = Bun.gzipSync(Buffer.from(JSON.stringify({ result: PING }).padEnd(64 * 1024 ** 2)));
        say("200 OK\r\ncontent-encoding: gzip", packed)(socket);
      },
    ],
  ])("is unanswered by %s, in words of our own", async (_, evil) => {
    answer = evil;
    const error = (await ping().catch((thrown: unknown) => thrown)) as Error & { code?: string };
    expect(error).toMatchObject({
      code: "DAEMON_UNREACHABLE",
      message: `the owner daemon does not answer on ${dir}/s`,
    });
    // Nothing was asked a second time.
    expect(asked).toBe(1);
  });
});
