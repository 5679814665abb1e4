import { expect, test } from "bun:test";
import { connect } from "node:net";
import { Duplex } from "node:stream";
import { type AgentChannel, openAgentChannel, openAgentChannelOver } from "../../../../src/shared/agent/channel.ts";
import {
  AGENT_LIMITS,
  AGENT_PROTOCOL,
  ANSWER_MAGIC,
  HEADER_BYTES,
  HELLO_MAGIC,
} from "../../../../src/shared/agent/protocol.ts";
import { AgentPeer } from "../../../support/fake-agent.ts";
import { serveSerial, serveVsock } from "../../../support/fake-guest.ts";

const PATIENCE = { timeoutMs: 5000 };

/** Whether frames go both ways. */
async function works(channel: AgentChannel, peer: AgentPeer): Promise<void> {
  const { promise, resolve, reject } = Promise.withResolvers<string>();
  channel.receive({ onFrame: ({ name }) => resolve(name), onLost: reject });
  peer.send("done", {});
  expect(await promise).toBe("done");
}

test("the hello is the magic, random bytes, and the version", async () => {
  const hellos: Buffer[] = [];
  await using guest = await serveVsock((peer) => {
    peer.socket.on("data", (chunk: Buffer) => {
      hellos.push(chunk);
      peer.socket.destroy();
    });
  });
  for (let i = 0; i < 2; i++)
    await expect(openAgentChannel(guest.place, PATIENCE)).rejects.toMatchObject({ code: "GUEST_NOT_READY" });
  for (const hello of hellos) {
    expect(hello.length).toBe(36);
    expect(hello.subarray(0, 16).toString("latin1")).toBe(HELLO_MAGIC);
    expect(hello.readUInt32LE(32)).toBe(AGENT_PROTOCOL);
  }
  expect(hellos).toHaveLength(2);
  expect(hellos[0]?.equals(hellos[1] ?? Buffer.alloc(0))).toBe(false);
});

test("what comes before the answer is thrown away, however it is cut", async () => {
  await using guest = await serveVsock(async (peer) => {
    const nonce = (await peer.readHello()) ?? Buffer.alloc(0);
    const stale = AgentPeer.answer(Buffer.alloc(16, 7));
    const garbage = Buffer.from(`\0\0\0${ANSWER_MAGIC}${ANSWER_MAGIC.slice(0, 9)}`, "latin1");
    const answer = AgentPeer.answer(nonce);
    // A frame of an old session, the start of an answer, answers to others, and the real one, a byte at a time.
    for (const byte of Buffer.concat([garbage, stale, answer.subarray(0, 31), stale, answer])) {
      peer.write(Uint8Array.of(byte));
      await new Promise(setImmediate);
    }
    peer.send("done", {});
  });
  await using channel = await openAgentChannel(guest.place, PATIENCE);
  const { promise, resolve, reject } = Promise.withResolvers<string>();
  channel.receive({ onFrame: ({ name }) => resolve(name), onLost: reject });
  expect(await promise).toBe("done");
});

test("frames that come with the answer are not lost", async () => {
  await using guest = await serveVsock(async (peer) => {
    const nonce = (await peer.readHello()) ?? Buffer.alloc(0);
    peer.write(Buffer.concat([AgentPeer.answer(nonce), Buffer.from([0, 0, 0, 0, 134])]));
  });
  await using channel = await openAgentChannel(guest.place, PATIENCE);
  const { promise, resolve, reject } = Promise.withResolvers<string>();
  channel.receive({ onFrame: ({ name }) => resolve(name), onLost: reject });
  expect(await promise).toBe("done");
});

test("on a serial port an unanswered hello is said again, after what ends any session", async () => {
  const seen: { readonly before: number; readonly nonce: string }[] = [];
  await using guest = await serveSerial(async (peer) => {
    const first = await peer.readHello();
    let before = 0;
    peer.socket.on("data", (chunk: Buffer) => {
      before += chunk.length;
    });
    const second = await peer.readHello();
    seen.push({ before: before - 36, nonce: first?.toString("hex") ?? "" });
    seen.push({ before: 0, nonce: second?.toString("hex") ?? "" });
    // The first is from an earlier time: its answer is none to the second.
    peer.write(AgentPeer.answer(first ?? Buffer.alloc(0), 99));
    peer.write(AgentPeer.answer(second ?? Buffer.alloc(0)));
    peer.startFrames();
    peers.resolve(peer);
  });
  const peers = Promise.withResolvers<AgentPeer>();
  await using channel = await openAgentChannel(guest.place, PATIENCE);
  await works(channel, await peers.promise);
  expect(seen[0]?.before).toBe(AGENT_LIMITS.payloadBytes + HEADER_BYTES);
  expect(seen[0]?.nonce).not.toBe(seen[1]?.nonce);
});

test("on vsock an unanswered hello is not said again: it would end the session that it began", async () => {
  let bytes = 0;
  await using guest = await serveVsock((peer) => {
    peer.socket.on("data", (chunk: Buffer) => {
      bytes += chunk.length;
    });
  });
  await expect(openAgentChannel(guest.place, { timeoutMs: 1200 })).rejects.toMatchObject({
    code: "GUEST_NOT_READY",
    message: "the guest's agent did not answer: timed out",
  });
  expect(bytes).toBe(36);
});

test("a hello that is still on its way is not said again", async () => {
  const written: number[] = [];
  // Never takes the next.
  const stream = new Duplex({ read: () => {}, write: (chunk: Buffer) => void written.push(chunk.length) });
  await expect(openAgentChannelOver(stream, { kind: "serial", timeoutMs: 1200 })).rejects.toMatchObject({
    code: "GUEST_NOT_READY",
  });
  expect(written).toEqual([36]);
  expect(stream.writableLength).toBe(36);
});

test("an agent of another version is an error that says so", async () => {
  await using guest = await serveVsock(async (peer) => await peer.accept(AGENT_PROTOCOL + 1));
  await expect(openAgentChannel(guest.place, PATIENCE)).rejects.toMatchObject({
    code: "GUEST_NOT_READY",
    details: { agentProtocol: AGENT_PROTOCOL + 1 },
    hint: "banger vm restart VM",
  });
});

test("a flood of anything but an answer ends with the deadline", async () => {
  await using guest = await serveVsock((peer) => {
    peer.flood(Buffer.alloc(1 << 16, ANSWER_MAGIC, "latin1"));
  });
  await expect(openAgentChannel(guest.place, { timeoutMs: 200 })).rejects.toMatchObject({ code: "GUEST_NOT_READY" });
});

test("a closed connection ends it at once, and so does a signal", async () => {
  await using closing = await serveVsock(async (peer) => {
    await peer.readHello();
    peer.socket.end();
  });
  await expect(openAgentChannel(closing.place, PATIENCE)).rejects.toMatchObject({
    code: "GUEST_NOT_READY",
    message: "the guest's agent did not answer: it closed the connection",
  });
  const aborter = new AbortController();
  await using silent = await serveVsock(async (peer) => {
    await peer.readHello();
    aborter.abort();
    await peer.gone();
  });
  await expect(openAgentChannel(silent.place, { ...PATIENCE, signal: aborter.signal })).rejects.toMatchObject({
    code: "CANCELLED",
  });
});

test("a stream of another module is as good, and is closed with the channel", async () => {
  const peers = Promise.withResolvers<AgentPeer>();
  await using guest = await serveSerial(async (peer) => {
    await peer.accept();
    peers.resolve(peer);
  });
  const stream = connect({ path: guest.agents[0]?.path ?? "" });
  const channel = await openAgentChannelOver(stream, { kind: "serial", ...PATIENCE });
  const peer = await peers.promise;
  await works(channel, peer);
  await channel[Symbol.asyncDispose]();
  expect(stream.destroyed).toBe(true);
  await peer.gone();
});

test("a stream that leads nowhere is destroyed", async () => {
  await using guest = await serveSerial((peer) => peer.socket.destroy());
  const stream = connect({ path: guest.agents[0]?.path ?? "" });
  await expect(openAgentChannelOver(stream, { kind: "serial", ...PATIENCE })).rejects.toMatchObject({
    code: "GUEST_NOT_READY",
  });
  expect(stream.destroyed).toBe(true);
  const nobody = connect({ path: "/nonexistent/socket" });
  await expect(openAgentChannelOver(nobody, { kind: "serial", ...PATIENCE })).rejects.toMatchObject({
    code: "GUEST_NOT_READY",
  });
});
