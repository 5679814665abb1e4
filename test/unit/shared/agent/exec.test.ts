import { describe, expect, test } from "bun:test";
import { type AgentChannel, openAgentChannel } from "../../../../src/shared/agent/channel.ts";
import { type AgentExec, AgentRefusal, type AgentRunning, startExec } from "../../../../src/shared/agent/exec.ts";
import type { FrameTo } from "../../../../src/shared/agent/frames.ts";
import { AGENT_ERRORS, AGENT_LIMITS, EXEC_FLAGS } from "../../../../src/shared/agent/protocol.ts";
import { BangerError } from "../../../../src/shared/errors.ts";
import type { AgentPeer } from "../../../support/fake-agent.ts";
import { serveVsock, type VsockGuest } from "../../../support/fake-guest.ts";

const CAT: AgentExec = { argv: ["cat"], env: [] };
const silent = { stdout: () => {}, stderr: () => {} };

interface Session extends AsyncDisposable {
  readonly channel: AgentChannel;
  readonly peer: AgentPeer;
}

/** Both ends of a channel. */
async function open(): Promise<Session> {
  const { promise, resolve } = Promise.withResolvers<AgentPeer>();
  const guest: VsockGuest = await serveVsock(async (peer) => {
    await peer.accept();
    resolve(peer);
  });
  const channel = await openAgentChannel(guest.place, { timeoutMs: 5000 });
  return {
    channel,
    peer: await promise,
    [Symbol.asyncDispose]: async () => {
      await channel[Symbol.asyncDispose]();
      await guest[Symbol.asyncDispose]();
    },
  };
}

/** Starts a command that has begun. */
async function begin(
  { channel, peer }: Session,
  exec: AgentExec = CAT,
  sinks: Parameters<typeof startExec>[2] = silent,
  options: Parameters<typeof startExec>[3] = {},
): Promise<AgentRunning> {
  const starting = startExec(channel, exec, sinks, options);
  await peer.readRequest();
  peer.send("started", { pid: 42 });
  return await starting;
}

/** Reads frames until so many bytes of input came. */
async function readStdin(peer: AgentPeer, bytes: number): Promise<Buffer> {
  const pieces: Uint8Array[] = [];
  for (let left = bytes; left > 0;) {
    const frame = await peer.read();
    if (frame?.name !== "stdin") throw new Error(`got ${frame?.name ?? "the end"} instead of stdin`);
    pieces.push(frame.bytes);
    left -= frame.bytes.length;
  }
  return Buffer.concat(pieces);
}

describe("the request", () => {
  async function requestOf(exec: AgentExec): Promise<readonly FrameTo<"guest">[]> {
    await using session = await open();
    const starting = startExec(session.channel, exec, silent);
    const frames = await session.peer.readRequest();
    session.peer.send("started", { pid: 1 });
    session.peer.exit();
    await (
      await starting
    ).exited;
    return frames;
  }
  const bytesOf = (frames: readonly FrameTo<"guest">[], name: string): Buffer =>
    Buffer.concat(
      frames
        .filter((frame) => frame.name === name)
        .map((frame) => ("bytes" in frame ? frame.bytes : [])) as Uint8Array[],
    );

  test("has arguments and variables as bytes, and all else in its fields", async () => {
    const frames = await requestOf({
      argv: ["printf", new Uint8Array([0xff, 0x0a]), ""],
      env: [
        ["A", "1"],
        ["LANG", "ü"],
      ],
      directory: "/tmp",
      user: "nobody",
      terminal: { rows: 24, columns: 80 },
      login: true,
      keep: true,
      timeoutMs: 1500,
      killAfterMs: 20,
    });
    expect(bytesOf(frames, "argument")).toEqual(Buffer.from("printf\0\xff\n\0\0", "latin1"));
    expect(bytesOf(frames, "variable")).toEqual(Buffer.from("A=1\0LANG=ü\0"));
    expect(bytesOf(frames, "directory").toString()).toBe("/tmp");
    expect(bytesOf(frames, "user").toString()).toBe("nobody");
    expect(frames.at(-1)).toEqual({
      name: "exec",
      flags: EXEC_FLAGS.terminal | EXEC_FLAGS.login | EXEC_FLAGS.keep,
      rows: 24,
      columns: 80,
      timeoutMs: 1500,
      killAfterMs: 20,
    });
  });

  test("leaves out what was left out", async () => {
    const frames = await requestOf({ argv: ["true"], env: [], noStdin: true, waitOutput: true });
    expect(frames.map(({ name }) => name)).toEqual(["argument", "exec"]);
    expect(frames.at(-1)).toMatchObject({ flags: EXEC_FLAGS.noStdin | EXEC_FLAGS.waitOutput, rows: 0, timeoutMs: 0 });
  });

  test("carries as much as Linux takes, cut into frames", async () => {
    const argument = "a".repeat(AGENT_LIMITS.argumentsBytes - 3);
    const frames = await requestOf({ argv: ["x", argument.slice(1), ""], env: [] });
    expect(bytesOf(frames, "argument").toString()).toBe(`x\0${argument.slice(1)}\0\0`);
    expect(frames.length).toBe(AGENT_LIMITS.argumentsBytes / AGENT_LIMITS.payloadBytes + 1);
  });

  test.each<[string, AgentExec, string]>([
    ["nothing to run", { argv: [], env: [] }, "there is no command to run"],
    ["a NUL in an argument", { argv: ["a\0b"], env: [] }, "the arguments can't contain a NUL character"],
    ["a NUL in a variable", { argv: ["a"], env: [["A", "\0"]] }, "the environment can't contain a NUL character"],
    ["a NUL in the directory", { ...CAT, directory: "/\0" }, "the directory can't contain a NUL character"],
    [
      "a directory over the limit",
      { ...CAT, directory: "x".repeat(4097) },
      "too long for a guest: the directory (4097 bytes, at most 4096)",
    ],
    [
      "a user over the limit",
      { ...CAT, user: "x".repeat(257) },
      "too long for a guest: the user (257 bytes, at most 256)",
    ],
    [
      "an argument over the limit",
      { argv: ["x".repeat(2 << 20)], env: [] },
      "too long for a guest: the arguments (2097153 bytes, at most 2097152)",
    ],
    [
      "many arguments over the limit",
      { argv: Array.from({ length: 3 }, () => "x".repeat(1 << 20)), env: [] },
      "too long for a guest: the arguments (3145731 bytes, at most 2097152)",
    ],
  ])("is refused before a byte is sent: %s", async (_, exec, message) => {
    await using session = await open();
    await expect(startExec(session.channel, exec, silent)).rejects.toMatchObject({ code: "INVALID_VALUE" });
    await expect(startExec(session.channel, exec, silent)).rejects.toThrow(message);
    // The channel is as good as before.
    await begin(session);
  });
});

describe("how it ends", () => {
  test("with the process's end, after all output", async () => {
    await using session = await open();
    let output = "";
    const sink = (bytes: Uint8Array): void => void (output += Buffer.from(bytes).toString());
    const running = await begin(session, CAT, { stdout: sink, stderr: sink });
    expect(running.pid).toBe(42);
    session.peer.send("stdout", { bytes: Buffer.from("one ") });
    session.peer.send("stdout", { bytes: Buffer.alloc(0) });
    session.peer.send("stderr", { bytes: Buffer.from("two") });
    session.peer.send("exited", {
      status: 137,
      signal: 9,
      flags: 3,
      userMicroseconds: 1n,
      systemMicroseconds: 2n,
      wallMicroseconds: 3n,
      peakKib: 4n,
    });
    session.peer.send("stdout", { bytes: Buffer.from("too late") });
    expect(await running.exited).toEqual({
      status: 137,
      signal: 9,
      timedOut: true,
      outputHeld: true,
      userMicroseconds: 1,
      systemMicroseconds: 2,
      wallMicroseconds: 3,
      peakKib: 4,
    });
    expect(output).toBe("one two");
    // The port is free for the next.
    await session.peer.gone();
  });

  test.each(Object.entries(AGENT_ERRORS))("with a refusal: %s", async (reason, code) => {
    await using session = await open();
    const starting = startExec(session.channel, CAT, silent);
    await session.peer.readRequest();
    session.peer.send("error", { code, errno: 2, bytes: Buffer.from("because\n") });
    const refusal = (await starting.catch((thrown: unknown) => thrown)) as AgentRefusal;
    expect(refusal).toBeInstanceOf(AgentRefusal);
    expect({ ...refusal }).toMatchObject({ code: "EXEC_FAILED", reason, errno: 2, text: "because" });
  });

  test("with an error when the channel is lost, before the start and after it", async () => {
    await using before = await open();
    const starting = startExec(before.channel, CAT, silent);
    await before.peer.readRequest();
    before.peer.socket.destroy();
    await expect(starting).rejects.toMatchObject({ code: "EXEC_FAILED" });
    await using after = await open();
    const running = await begin(after);
    after.peer.socket.destroy();
    await expect(running.exited).rejects.toMatchObject({
      code: "EXEC_FAILED",
      message: "lost the connection to the guest's agent: it closed the connection",
    });
  });

  test("with an error when the agent starts nothing in time", async () => {
    await using session = await open();
    await expect(startExec(session.channel, CAT, silent, { startTimeoutMs: 20 })).rejects.toMatchObject({
      code: "EXEC_FAILED",
      message: "the guest's agent started nothing within 20 ms",
    });
    await session.peer.gone();
  });

  test("with an error when the agent doesn't report the end of a command past its time", async () => {
    await using session = await open();
    const limited = { ...CAT, timeoutMs: 5, killAfterMs: 5 };
    const running = await begin(session, limited, silent, { reportTimeoutMs: 10 });
    await expect(running.exited).rejects.toMatchObject({ code: "EXEC_TIMEOUT" });
  });

  test("but not at once when the time limit is longer than a timer", async () => {
    await using session = await open();
    const running = await begin(session, { ...CAT, timeoutMs: 2 ** 31, killAfterMs: 0 });
    session.peer.send("stdout", { bytes: Buffer.from("x") });
    // A timer that overflowed would have fired by now.
    await Bun.sleep(5);
    session.peer.exit();
    expect(await running.exited).toMatchObject({ status: 0 });
  });

  test("but not while this side is slow to take its output", async () => {
    await using session = await open();
    const limited = { ...CAT, timeoutMs: 1, killAfterMs: 1 };
    // Slower than the agent may be.
    const slow = { stdout: async () => await Bun.sleep(60), stderr: () => {} };
    const running = await begin(session, limited, slow, { reportTimeoutMs: 20 });
    session.peer.send("stdout", { bytes: Buffer.from("x") });
    session.peer.exit(124);
    expect(await running.exited).toMatchObject({ status: 124 });
  });

  test("with CANCELLED when its signal aborts, before the start and after it", async () => {
    await using before = await open();
    const aborted = startExec(before.channel, CAT, silent, { signal: AbortSignal.abort() });
    await expect(aborted).rejects.toMatchObject({ code: "CANCELLED" });
    await using after = await open();
    const aborter = new AbortController();
    const running = await begin(after, CAT, silent, { signal: aborter.signal });
    aborter.abort();
    await expect(running.exited).rejects.toMatchObject({ code: "CANCELLED" });
    await after.peer.gone();
  });

  test("with an error when the channel is disposed of", async () => {
    await using session = await open();
    const running = await begin(session);
    await session.channel[Symbol.asyncDispose]();
    await expect(running.exited).rejects.toMatchObject({ code: "CANCELLED" });
    await expect(startExec(session.channel, CAT, silent)).rejects.toThrow();
  });

  test.each<[string, () => void | Promise<void>]>([
    [
      "throws",
      () => {
        throw new BangerError("OUTPUT_FAILED", "disk full");
      },
    ],
    ["rejects", async () => await Promise.reject(new BangerError("OUTPUT_FAILED", "disk full"))],
  ])("with the sink's own error when that %s", async (_, sink) => {
    await using session = await open();
    const running = await begin(session, CAT, { stdout: sink, stderr: () => {} });
    session.peer.send("stdout", { bytes: Buffer.from("x") });
    await expect(running.exited).rejects.toMatchObject({ code: "OUTPUT_FAILED", message: "disk full" });
    // The agent hears of it.
    await session.peer.gone();
  });
});

describe("output", () => {
  test("is taken as fast as the sink takes it, and stops the agent's writes", async () => {
    await using session = await open();
    const { peer } = session;
    const frames = 256;
    const size = frames * AGENT_LIMITS.payloadBytes;
    let got = 0;
    let busy = 0;
    let mostHeld = 0;
    const running = await begin(session, CAT, {
      stdout: async (bytes) => {
        expect(++busy).toBe(1);
        // The agent may send what it can in the meantime.
        for (let turn = 0; turn < 5; turn++) await new Promise(setImmediate);
        got += bytes.length;
        const sent = size - peer.socket.writableLength;
        mostHeld = Math.max(mostHeld, sent - got);
        busy--;
      },
      stderr: () => {},
    });
    const payload = Buffer.alloc(AGENT_LIMITS.payloadBytes, 1);
    for (let i = 0; i < frames; i++) peer.send("stdout", { bytes: payload });
    peer.exit();
    expect(await running.exited).toMatchObject({ status: 0 });
    expect(got).toBe(size);
    // What the kernel holds, and what was read at once.
    expect(mostHeld).toBeLessThan(1024 * 1024);
  });
});

describe("input", () => {
  test("is sent in order, within the window, and ends after what was written before", async () => {
    await using session = await open();
    const { peer } = session;
    const running = await begin(session);
    const all = Buffer.from(Array.from({ length: 600_000 }, (_, i) => i % 251));
    const writes = [running.writeStdin(all.subarray(0, 500_000)), running.writeStdin(all.subarray(500_000))];
    running.endStdin();
    expect(await running.writeStdin(Buffer.from("after the end"))).toBe(false);
    const first = await readStdin(peer, AGENT_LIMITS.stdinWindowBytes);
    expect(first.length).toBe(AGENT_LIMITS.stdinWindowBytes);
    // A signal and a size don't wait behind the input.
    running.signal(15);
    expect(await peer.read()).toEqual({ name: "signal", number: 15 });
    const pieces = [first];
    for (let at = first.length; at < all.length;) {
      peer.send("credit", { bytes: 100_000 });
      const piece = await readStdin(peer, Math.min(100_000, all.length - at));
      pieces.push(piece);
      at += piece.length;
    }
    expect(await Promise.all(writes)).toEqual([true, true]);
    expect(Buffer.concat(pieces).equals(all)).toBe(true);
    expect(await peer.read()).toEqual({ name: "stdinEnd" });
    running.endStdin();
    running.signal(9);
    expect(await peer.read()).toEqual({ name: "signal", number: 9 });
  });

  test("may be reused by its owner once it was taken", async () => {
    await using session = await open();
    const running = await begin(session);
    const bytes = Buffer.from("first");
    await running.writeStdin(bytes);
    bytes.fill("x");
    expect((await readStdin(session.peer, 5)).toString()).toBe("first");
  });

  test("stops waiting when the command ends or the channel breaks", async () => {
    await using ended = await open();
    const running = await begin(ended);
    const writing = running.writeStdin(Buffer.alloc(1_000_000));
    running.endStdin();
    ended.peer.exit(1);
    expect(await writing).toBe(false);
    expect(await running.exited).toMatchObject({ status: 1 });
    expect(await running.writeStdin(Buffer.from("x"))).toBe(false);
    running.signal(2);
    running.endStdin();
    await using broken = await open();
    const lost = await begin(broken);
    const waiting = lost.writeStdin(Buffer.alloc(1_000_000));
    broken.peer.socket.destroy();
    expect(await waiting).toBe(false);
    await expect(lost.exited).rejects.toMatchObject({ code: "EXEC_FAILED" });
  });

  test("is none with noStdin", async () => {
    await using session = await open();
    const running = await begin(session, { ...CAT, noStdin: true });
    expect(await running.writeStdin(Buffer.from("x"))).toBe(false);
    running.endStdin();
    running.signal(1);
    expect(await session.peer.read()).toEqual({ name: "signal", number: 1 });
  });
});

test("sizes go to a terminal, and only to one", async () => {
  await using session = await open();
  const running = await begin(session, { ...CAT, terminal: { rows: 1, columns: 2 } });
  running.resize(50, 1_000_000);
  expect(await session.peer.read()).toEqual({ name: "resize", rows: 50, columns: 65_535 });
  await using without = await open();
  const plain = await begin(without);
  plain.resize(1, 1);
  plain.signal(3);
  expect(await without.peer.read()).toEqual({ name: "signal", number: 3 });
});
