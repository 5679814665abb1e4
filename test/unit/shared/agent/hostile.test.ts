/** Agents that lie, flood, stall and break: each call ends with one error of banger's, by its own deadline. */

import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { openAgentChannel, type AgentPlace } from "../../../../src/shared/agent/channel.ts";
import {
  powerOff,
  readListeners,
  readUsage,
  runInGuest,
  setClock,
  waitReady,
} from "../../../../src/shared/agent/client.ts";
import { startExec } from "../../../../src/shared/agent/exec.ts";
import { encodeFrame } from "../../../../src/shared/agent/frames.ts";
import { AGENT_LIMITS, FRAMES } from "../../../../src/shared/agent/protocol.ts";
import { BangerError } from "../../../../src/shared/errors.ts";
import { AgentPeer } from "../../../support/fake-agent.ts";
import { serveVsock } from "../../../support/fake-guest.ts";

const BOOT_ID = Buffer.from("b4c9f2a4-5d3b-4d7e-9c39-0f9b1f3a7c11");
const DONE = encodeFrame("done", {});
const STARTED = encodeFrame("started", { pid: 9 });
const COUNTERS = encodeFrame("counters", { rxBytes: 1n, txBytes: 2n });
const EXIT = {
  status: 0,
  signal: 0,
  flags: 0,
  userMicroseconds: 1n,
  systemMicroseconds: 2n,
  wallMicroseconds: 3n,
  peakKib: 4n,
};
const EXITED = encodeFrame("exited", EXIT);
const out = (bytes: number): Buffer => encodeFrame("stdout", { bytes: Buffer.alloc(bytes, "y") });
const silent = { stdout: () => {}, stderr: () => {} };

interface Call {
  readonly run: (place: AgentPlace, timeoutMs: number) => Promise<unknown>;
  /** What an honest agent answers. */
  readonly answer: Buffer;
}

const CALLS: Readonly<Record<string, Call>> = {
  waitReady: {
    run: async (place, timeoutMs) => await waitReady(place, { timeoutMs }),
    answer: encodeFrame("ready", { flags: 0, bytes: BOOT_ID }),
  },
  setClock: { run: async (place, timeoutMs) => await setClock(place, new Date(), { timeoutMs }), answer: DONE },
  powerOff: { run: async (place, timeoutMs) => await powerOff(place, "poweroff", { timeoutMs }), answer: DONE },
  readUsage: {
    run: async (place, timeoutMs) => await readUsage(place, { timeoutMs }),
    answer: Buffer.concat([COUNTERS, DONE]),
  },
  readListeners: {
    run: async (place, timeoutMs) => await readListeners(place, { timeoutMs }),
    answer: Buffer.concat([encodeFrame("listener", { port: 22, bytes: Buffer.from("sshd") }), DONE]),
  },
  runInGuest: {
    run: async (place, timeoutMs) =>
      await runInGuest(
        place,
        { argv: ["x"], env: [], stdin: Buffer.alloc(300_000) },
        { timeoutMs, outputLimitBytes: 1e6 },
      ),
    answer: Buffer.concat([STARTED, out(3), encodeFrame("credit", { bytes: 1000 }), EXITED]),
  },
  startExec: {
    run: async (place, timeoutMs) => {
      await using channel = await openAgentChannel(place, { timeoutMs });
      const exec = { argv: ["x"], env: [], timeoutMs: 1, killAfterMs: 1 };
      const running = await startExec(channel, exec, silent, { startTimeoutMs: timeoutMs, reportTimeoutMs: timeoutMs });
      void running.writeStdin(Buffer.alloc(300_000));
      return await running.exited;
    },
    answer: Buffer.concat([STARTED, out(3), EXITED]),
  },
};
const CALL_LIST = Object.entries(CALLS);

const unhandled: unknown[] = [];
const note = (thrown: unknown): void => void unhandled.push(thrown);
beforeEach(() => {
  unhandled.length = 0;
  process.on("unhandledRejection", note);
});
afterEach(() => {
  process.off("unhandledRejection", note);
  expect(unhandled).toEqual([]);
});

/** The error of a call to an agent with this script. */
async function failureOf(call: Call, script: (peer: AgentPeer) => unknown, timeoutMs: number): Promise<BangerError> {
  await using guest = await serveVsock(script);
  const result = await call.run(guest.place, timeoutMs).catch((thrown: unknown) => thrown);
  // The channel is closed, whatever the agent does.
  await guest.agent.idle();
  expect(result).toBeInstanceOf(BangerError);
  return result as BangerError;
}

const CODES = ["GUEST_NOT_READY", "GUEST_FAILED", "EXEC_FAILED", "EXEC_TIMEOUT"];

describe.each(CALL_LIST)("%s", (_, call) => {
  test("returns what an honest agent says, though a byte at a time", async () => {
    await using guest = await serveVsock(async (peer) => {
      const nonce = (await peer.readHello()) ?? Buffer.alloc(0);
      for (const byte of Buffer.concat([AgentPeer.answer(nonce), call.answer])) {
        peer.write(Uint8Array.of(byte));
        await new Promise(setImmediate);
      }
    });
    await call.run(guest.place, 20_000);
    await guest.agent.idle();
  });

  test("ends where the agent stalls: at every byte", async () => {
    const length = 36 + call.answer.length;
    await using guest = await serveVsock(async (peer) => {
      const stop = guest.agent.connections - 1;
      const nonce = (await peer.readHello()) ?? Buffer.alloc(0);
      peer.write(Buffer.concat([AgentPeer.answer(nonce), call.answer]).subarray(0, stop));
    });
    const calls = Array.from(
      { length },
      async () => await call.run(guest.place, 150).catch((thrown: unknown) => thrown),
    );
    for (const result of await Promise.all(calls)) {
      expect(result).toBeInstanceOf(BangerError);
      expect(CODES).toContain((result as BangerError).code);
    }
    await guest.agent.idle();
  });

  test("ends where the agent closes: at every byte", async () => {
    const length = 36 + call.answer.length;
    await using guest = await serveVsock(async (peer) => {
      const stop = (guest.agent.connections - 1) % length;
      const nonce = (await peer.readHello()) ?? Buffer.alloc(0);
      peer.socket.end(Buffer.concat([AgentPeer.answer(nonce), call.answer]).subarray(0, stop));
    });
    const calls = Array.from(
      { length },
      async () => await call.run(guest.place, 60).catch((thrown: unknown) => thrown),
    );
    for (const result of await Promise.all(calls)) {
      // Waiting for readiness tries again, and may come to an honest one.
      if (!(result instanceof BangerError)) expect(call).toBe(CALLS["waitReady"] as Call);
      else expect(CODES).toContain(result.code);
    }
    await guest.agent.idle();
  });

  test.each<[string, Buffer]>([
    ["zeros", Buffer.alloc(1000)],
    ["an unknown type", Buffer.from([0, 0, 0, 0, 200])],
    ["a frame to the guest", encodeFrame("stdinEnd", {})],
    ["a length of 4 GiB", Buffer.from([255, 255, 255, 255, 129])],
    ["a length one over the limit", Buffer.from([1, 0, 1, 0, 129])],
    ["text", Buffer.from("HTTP/1.1 400 Bad Request\r\n\r\n")],
    ["an error of no known code", encodeFrame("error", { code: 77, errno: 0, bytes: Buffer.alloc(0) })],
    ["an error of code 0", encodeFrame("error", { code: 0, errno: 0, bytes: Buffer.alloc(0) })],
    ["an errno of none", encodeFrame("error", { code: 1, errno: -5, bytes: Buffer.alloc(0) })],
    ["an errno over all", encodeFrame("error", { code: 1, errno: 5000, bytes: Buffer.alloc(0) })],
    ["output before its start", out(1)],
    ["an end before its start", EXITED],
    ["a credit before its start", encodeFrame("credit", { bytes: 1 })],
    ["a pid of 0", encodeFrame("started", { pid: 0 })],
    ["a pid of none", encodeFrame("started", { pid: 0xffff_ffff })],
  ])("refuses %s", async (_name, bytes) => {
    const failure = await failureOf(
      call,
      async (peer) => {
        await peer.accept();
        peer.write(bytes);
      },
      20_000,
    );
    expect(failure.message).toContain("broke the protocol");
  });

  test("refuses each frame that is none of its own", async () => {
    const frames = {
      done: DONE,
      counters: COUNTERS,
      ready: encodeFrame("ready", { flags: 0, bytes: BOOT_ID }),
      listener: encodeFrame("listener", { port: 1, bytes: Buffer.alloc(0) }),
      started: STARTED,
    };
    const own = Object.entries(FRAMES).filter(([, { type }]) => [...framesOf(call.answer)].includes(type));
    const names = new Set(own.map(([name]) => name));
    for (const [name, bytes] of Object.entries(frames)) {
      if (names.has(name)) continue;
      const failure = await failureOf(call, async (peer) => (await peer.accept(), peer.write(bytes)), 20_000);
      expect(failure.message).toContain("out of turn");
    }
  });

  test("ends by its deadline in a flood of what is allowed", async () => {
    await using guest = await serveVsock(async (peer) => {
      await peer.accept();
      const isExec = call.answer.includes(STARTED);
      if (isExec) peer.write(STARTED);
      if (isExec) peer.flood(Buffer.concat(Array.from({ length: 2000 }, () => out(0))));
    });
    await expect(call.run(guest.place, 150)).rejects.toBeInstanceOf(BangerError);
    await guest.agent.idle();
  });
});

function* framesOf(bytes: Buffer): Generator<number> {
  for (let at = 0; at < bytes.length; at += 5 + bytes.readUInt32LE(at)) yield bytes[at + 4] ?? 0;
}

const exec = CALLS["runInGuest"] as Call;

test.each<[string, readonly Buffer[]]>([
  ["a second start", [STARTED, STARTED]],
  ["credit for what was never sent", [STARTED, encodeFrame("credit", { bytes: AGENT_LIMITS.stdinWindowBytes + 1 })]],
  ["credit of nothing", [STARTED, encodeFrame("credit", { bytes: 0 })]],
  ["credit without end", [STARTED, encodeFrame("credit", { bytes: 0xffff_ffff })]],
  ["a negative status", [STARTED, encodeFrame("exited", { ...EXIT, status: -1 })]],
  ["a status over all", [STARTED, encodeFrame("exited", { ...EXIT, status: 256 })]],
  ["a signal over all", [STARTED, encodeFrame("exited", { ...EXIT, status: 193, signal: 65 })]],
  ["a signal with another status", [STARTED, encodeFrame("exited", { ...EXIT, status: 0, signal: 9 })]],
  ["unknown flags", [STARTED, encodeFrame("exited", { ...EXIT, flags: 4 })]],
  ["a time that no number holds", [STARTED, encodeFrame("exited", { ...EXIT, wallMicroseconds: 2n ** 53n })]],
  ["a size that no number holds", [STARTED, encodeFrame("exited", { ...EXIT, peakKib: 2n ** 64n - 1n })]],
  ["done", [STARTED, DONE]],
])("an exec refuses %s", async (_, frames) => {
  const script = async (peer: AgentPeer): Promise<void> => {
    await peer.accept();
    await peer.readRequest();
    peer.write(Buffer.concat(frames));
  };
  const failure = await failureOf(exec, script, 20_000);
  expect(failure.code).toBe("EXEC_FAILED");
  expect(failure.message).toContain("broke the protocol");
});

test.each<[string, string, readonly Buffer[]]>([
  ["a boot id that is none", "waitReady", [encodeFrame("ready", { flags: 0, bytes: Buffer.alloc(36, "x") })]],
  ["unknown flags", "waitReady", [encodeFrame("ready", { flags: 4, bytes: BOOT_ID })]],
  ["a counter that no number holds", "readUsage", [encodeFrame("counters", { rxBytes: 2n ** 60n, txBytes: 0n })]],
  ["an end without counters", "readUsage", [DONE]],
  ["counters twice", "readUsage", [COUNTERS, COUNTERS]],
  ["port 0", "readListeners", [encodeFrame("listener", { port: 0, bytes: Buffer.alloc(0) })]],
])("a question refuses %s", async (_, name, frames) => {
  const script = async (peer: AgentPeer): Promise<void> => {
    await peer.accept();
    peer.write(Buffer.concat(frames));
  };
  const failure = await failureOf(CALLS[name] as Call, script, 20_000);
  expect(failure.code).toBe("GUEST_FAILED");
  expect(failure.message).toContain("broke the protocol");
});

test("no text of a guest's steers a terminal or begins a line", async () => {
  const bytes = Buffer.from("\u001b[2Jone\r\ntwo\u009b1m\u2028three\u0000\n\xff", "latin1");
  const script = async (peer: AgentPeer): Promise<void> => {
    await peer.accept();
    peer.send("error", { code: 6, errno: 1, bytes });
  };
  const failure = await failureOf(CALLS["setClock"] as Call, script, 20_000);
  // eslint-disable-next-line no-control-regex
  expect(failure.message).not.toMatch(/[\u0000-\u001f\u007f-\u009f\u2028\u2029]/);
  expect(failure.message).toContain("one two");
});
