import { describe, expect, test } from "bun:test";
import {
  powerOff,
  readListeners,
  readUsage,
  runInGuest,
  setClock,
  waitReady,
} from "../../../../src/shared/agent/client.ts";
import { AGENT_LIMITS } from "../../../../src/shared/agent/protocol.ts";
import type { AgentPeer } from "../../../support/fake-agent.ts";
import { serveSerial, serveVsock } from "../../../support/fake-guest.ts";

const BOOT_ID = "b4c9f2a4-5d3b-4d7e-9c39-0f9b1f3a7c11";
const TIMES = { timeoutMs: 5000 };

async function answer(peer: AgentPeer): Promise<void> {
  await peer.accept();
  const [first] = await peer.readRequest();
  switch (first?.name) {
    case "waitReady":
      return peer.send("ready", { flags: 1, bytes: Buffer.from(BOOT_ID) });
    case "clock":
      return first.seconds === 1_234_567_890n && first.nanoseconds === 123_000_000
        ? peer.send("done", {})
        : peer.send("error", { code: 6, errno: 22, bytes: Buffer.from("clock_settime") });
    case "power":
      return first.kind === 2
        ? peer.send("done", {})
        : peer.send("error", { code: 6, errno: 1, bytes: Buffer.from("no\u001b[31m power\n") });
    case "usage":
      peer.send("counters", { rxBytes: 7n, txBytes: 9n });
      return peer.send("done", {});
    case "listeners":
      peer.send("listener", { port: 22, bytes: Buffer.from("sshd") });
      peer.send("listener", { port: 8080, bytes: Buffer.alloc(0) });
      return peer.send("done", {});
    default:
      peer.send("started", { pid: 77 });
      for (let frame = await peer.read(); frame?.name === "stdin"; frame = await peer.read()) {
        peer.send("stdout", { bytes: frame.bytes });
        peer.send("credit", { bytes: frame.bytes.length });
      }
      peer.send("stderr", { bytes: Buffer.from("bye") });
      return peer.exit(3);
  }
}

describe.each([
  ["serial", serveSerial],
  ["vsock", serveVsock],
] as const)("over %s", (_, serve) => {
  test("each call asks for its thing and returns the answer", async () => {
    await using guest = await serve(answer);
    const { place } = guest;
    expect(await waitReady(place, TIMES)).toEqual({ bootId: BOOT_ID, workDisk: true, isInit: false });
    expect(await readUsage(place, TIMES)).toEqual({ rxBytes: 7, txBytes: 9 });
    expect(await readListeners(place, TIMES)).toEqual([
      { port: 22, process: "sshd" },
      { port: 8080, process: null },
    ]);
    await setClock(place, new Date(1_234_567_890_123), TIMES);
    await powerOff(place, "reboot", TIMES);
  });

  test("a command's output and end come back, and its input goes there", async () => {
    await using guest = await serve(answer);
    const stdin = Buffer.alloc(1_000_000, "0123456789");
    const limits = { ...TIMES, outputLimitBytes: stdin.length + 3 };
    const { exit, stdout, stderr } = await runInGuest(guest.place, { argv: ["cat"], env: [], stdin }, limits);
    expect(exit).toMatchObject({ status: 3, signal: 0, peakKib: 4 });
    expect(stdout.equals(stdin)).toBe(true);
    expect(stderr.toString()).toBe("bye");
    await expect(
      runInGuest(guest.place, { argv: ["cat"], env: [], stdin }, { ...limits, outputLimitBytes: stdin.length + 2 }),
    ).rejects.toMatchObject({ code: "GUEST_FAILED", message: "the command's output is longer than 1000002 bytes" });
  });
});

test("an agent's refusal is an error with its reason, on one line and without what steers a terminal", async () => {
  await using guest = await serveVsock(answer);
  await expect(powerOff(guest.place, "poweroff", TIMES)).rejects.toMatchObject({
    code: "GUEST_FAILED",
    reason: "system",
    errno: 1,
    message: "the guest's agent: no [31m power",
  });
});

test("waiting for readiness outlasts an agent that is not there yet, and connections that break", async () => {
  let tries = 0;
  await using guest = await serveVsock(async (peer) => {
    tries++;
    if (tries === 1) return peer.socket.destroy();
    if (tries === 2) {
      await peer.accept();
      return peer.socket.destroy();
    }
    return await answer(peer);
  });
  expect(await waitReady(guest.place, TIMES)).toMatchObject({ bootId: BOOT_ID });
  expect(tries).toBe(3);
});

test("waiting for readiness ends at once at an agent of another version", async () => {
  await using guest = await serveVsock(async (peer) => await peer.accept(7));
  await expect(waitReady(guest.place, TIMES)).rejects.toMatchObject({
    code: "GUEST_NOT_READY",
    details: { agentProtocol: 7 },
  });
  expect(guest.agent.connections).toBe(1);
});

test("what was asked of an agent that then falls silent counts as asked", async () => {
  await using guest = await serveVsock(async (peer) => {
    await peer.accept();
    await peer.readRequest();
    peer.socket.destroy();
  });
  await expect(powerOff(guest.place, "poweroff", TIMES)).rejects.toMatchObject({ code: "GUEST_FAILED" });
  await using stalled = await serveVsock(async (peer) => await peer.accept());
  await expect(readUsage(stalled.place, { timeoutMs: 50 })).rejects.toMatchObject({ code: "GUEST_FAILED" });
});

test("an aborted call ends, and closes its connection", async () => {
  const { promise: asked, resolve } = Promise.withResolvers<void>();
  const { promise: closed, resolve: close } = Promise.withResolvers<void>();
  await using guest = await serveVsock(async (peer) => {
    await peer.accept();
    await peer.readRequest();
    resolve();
    await peer.gone();
    close();
  });
  const aborter = new AbortController();
  const call = readUsage(guest.place, { ...TIMES, signal: aborter.signal });
  await asked;
  aborter.abort();
  await expect(call).rejects.toMatchObject({ code: "CANCELLED" });
  await closed;
  await expect(readUsage(guest.place, { ...TIMES, signal: AbortSignal.abort() })).rejects.toMatchObject({
    code: "CANCELLED",
  });
});

test("as many listeners as the protocol allows are read, and not one more", async () => {
  const serve = async (count: number) =>
    await serveVsock(async (peer) => {
      await peer.accept();
      for (let port = 1; port <= count; port++) peer.send("listener", { port, bytes: Buffer.alloc(0) });
      peer.send("done", {});
    });
  await using most = await serve(AGENT_LIMITS.listeners);
  expect(await readListeners(most.place, TIMES)).toHaveLength(AGENT_LIMITS.listeners);
  await using tooMany = await serve(AGENT_LIMITS.listeners + 1);
  await expect(readListeners(tooMany.place, TIMES)).rejects.toThrow("too many listeners");
});
