import { afterEach, beforeEach, expect, test } from "bun:test";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { connectUnix, type Wire } from "../../../../src/shared/streams/wire.ts";
import { FakeAgent } from "../../../support/fake-agent.ts";

let dir = "";
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), "banger-wire-"));
});
afterEach(() => rmSync(dir, { recursive: true, force: true }));

/** Reads all until the end; pauses after each piece, for some turns of the event loop. */
async function readAll(wire: Wire, pauseTurns = 0): Promise<{ readonly bytes: number; readonly why: string }> {
  const { promise, resolve } = Promise.withResolvers<string>();
  let bytes = 0;
  let isPaused = false;
  wire.read({
    onData: (chunk) => {
      expect(isPaused).toBe(false);
      bytes += chunk.length;
      if (pauseTurns === 0) return;
      isPaused = true;
      wire.pause();
      void (async () => {
        for (let turn = 0; turn < pauseTurns; turn++) await new Promise(setImmediate);
        isPaused = false;
        wire.resume();
      })();
    },
    onEnd: resolve,
  });
  wire.resume();
  return { why: await promise, bytes };
}

test("bytes that the kernel doesn't take at once are kept, and sent in order", async () => {
  const size = 8 * 1024 * 1024;
  const sum = Promise.withResolvers<string>();
  await using server = await FakeAgent.listen(join(dir, "s"), ({ socket }) => {
    const hash = new Bun.CryptoHasher("sha256");
    let got = 0;
    socket.on("data", (chunk: Buffer) => {
      hash.update(chunk);
      got += chunk.length;
      if (got === size) sum.resolve(hash.digest("hex"));
    });
  });
  const wire = await connectUnix(server.path);
  const all = Buffer.from(Array.from({ length: size }, (_, i) => (i * 7 + (i >> 8)) & 0xff));
  for (let at = 0; at < size; at += 100_000) wire.write(all.subarray(at, at + 100_000));
  expect(wire.unsentBytes).toBeGreaterThan(0);
  expect(await sum.promise).toBe(new Bun.CryptoHasher("sha256").update(all).digest("hex"));
  expect(wire.unsentBytes).toBe(0);
  wire.close();
  wire.write(all);
  expect(wire.unsentBytes).toBe(0);
  await wire.gone;
});

/** Sends a byte, and when told to the rest; then ends with input unread, so that the kernel resets the connection. */
const RESETTER = `
  const [path, size] = process.argv.slice(1);
  let left = Number(size);
  const send = (socket) => {
    while (left > 0) {
      const sent = socket.write(Buffer.alloc(Math.min(left, 65536), 1));
      if (sent <= 0) return;
      left -= sent;
    }
    process.exit(0);
  };
  Bun.listen({ unix: path, socket: {
    open(socket) {
      socket.pause();
      socket.write("1");
      process.stdin.once("data", () => send(socket));
    },
    drain: send,
    data() {},
  }});
  console.log("listens");`;

test.each([
  [1, "is reading"],
  [150_000, "is reading"],
  [5_000_000, "is reading"],
  [1, "has paused"],
  [150_000, "has paused"],
])("of %i bytes before a reset none is lost while this side %s", async (size, state) => {
  const path = join(dir, "s");
  const server = Bun.spawn([process.execPath, "-e", RESETTER, path, String(size)], {
    stdin: "pipe",
    stdout: "pipe",
    stderr: "inherit",
  });
  await server.stdout.getReader().read();
  const wire = await connectUnix(path);
  wire.write(Buffer.alloc(1000));
  const first = Promise.withResolvers<void>();
  const end = Promise.withResolvers<string>();
  let bytes = 0;
  wire.read({
    onData: (chunk) => {
      if (bytes === 0 && state === "has paused") wire.pause();
      bytes += chunk.length;
      first.resolve();
    },
    onEnd: end.resolve,
  });
  wire.resume();
  await first.promise;
  server.stdin.write("go");
  await server.stdin.end();
  if (state === "has paused") {
    await server.exited;
    wire.resume();
  }
  await end.promise;
  expect(bytes).toBe(size + 1);
  await server.exited;
  await wire.gone;
});

test("the end waits until all that came before was read", async () => {
  await using server = await FakeAgent.listen(join(dir, "s"), ({ socket }) => {
    socket.once("data", () => socket.end(Buffer.alloc(300_000)));
  });
  const wire = await connectUnix(server.path);
  wire.write(Buffer.from("go"));
  expect(await readAll(wire, 10)).toEqual({ bytes: 300_000, why: "it closed the connection" });
});

test("a reader that comes late gets what was put back, then what came, then the end", async () => {
  await using server = await FakeAgent.listen(join(dir, "s"), ({ socket }) => {
    socket.once("data", () => socket.end("third"));
  });
  const wire = await connectUnix(server.path);
  wire.unread(Buffer.from("second "));
  wire.unread(Buffer.from("first "));
  wire.write(Buffer.from("go"));
  let text = "";
  const { promise, resolve } = Promise.withResolvers<string>();
  wire.read({ onData: (bytes) => void (text += bytes.toString()), onEnd: resolve });
  expect(text).toBe("");
  wire.resume();
  expect(text).toBe("first second ");
  await promise;
  expect(text).toBe("first second third");
});

test("a reader that pauses gets the next piece only after it resumes, of kept ones too", async () => {
  await using server = await FakeAgent.listen(join(dir, "s"), () => {});
  const wire = await connectUnix(server.path);
  for (const piece of ["three", "two", "one"]) wire.unread(Buffer.from(piece));
  const pieces: string[] = [];
  wire.read({
    onData: (bytes) => {
      pieces.push(bytes.toString());
      wire.pause();
    },
    onEnd: () => pieces.push("end"),
  });
  for (const wanted of [["one"], ["one", "two"], ["one", "two", "three"]]) {
    wire.resume();
    expect(pieces).toEqual(wanted);
  }
  wire.close();
});

test("a closed wire tells its reader nothing more", async () => {
  await using server = await FakeAgent.listen(join(dir, "s"), ({ socket }) => void socket.write("x".repeat(1_000_000)));
  const wire = await connectUnix(server.path);
  let calls = 0;
  const { promise, resolve } = Promise.withResolvers<void>();
  wire.read({
    onData: () => {
      calls++;
      wire.close();
      resolve();
    },
    onEnd: () => calls++,
  });
  wire.resume();
  await promise;
  await wire.gone;
  wire.resume();
  wire.pause();
  expect(calls).toBe(1);
});

test("an error of connecting names the path and what failed", async () => {
  await expect(connectUnix(join(dir, "nothing"))).rejects.toThrow(`connecting to ${join(dir, "nothing")}: ENOENT`);
});
