/**
 * Hostile agents by chance: each call of the client over streams that almost are valid sessions. The seed is printed; BANGER_FUZZ_SEED
 * runs it again. `npm run test:full` runs a million frames through the decoder (BANGER_TEST_LONG).
 */

import { describe, expect, test } from "bun:test";
import { Duplex } from "node:stream";
import { openAgentChannelOver } from "../../src/shared/agent/channel.ts";
import { answerOf } from "../../src/shared/agent/client.ts";
import { type AgentExit, startExec } from "../../src/shared/agent/exec.ts";
import { encodeFrame, FrameDecoder } from "../../src/shared/agent/frames.ts";
import { AGENT_LIMITS, HEADER_BYTES, MAGIC_BYTES, NONCE_BYTES } from "../../src/shared/agent/protocol.ts";
import { BangerError } from "../../src/shared/errors.ts";
import {
  below,
  type Chance,
  chanceOf,
  cut,
  encoded,
  frameOf,
  NAMES,
  namesTo,
  pick,
  spoil,
} from "../support/random-frames.ts";
import { AgentPeer } from "../support/fake-agent.ts";

const IS_LONG = process.env["BANGER_TEST_LONG"] === "1";
const FRAMES_TO_DECODE = IS_LONG ? 1_000_000 : 100_000;
/** Of each kind. */
const SESSIONS = IS_LONG ? 20_000 : 5_000;
const SEED = Number(process.env["BANGER_FUZZ_SEED"] ?? crypto.getRandomValues(new Uint32Array(1))[0]);
/** A machine may have much else to do. */
const TIMEOUT_MS = 120_000;
console.log(`agent-fuzz: seed ${SEED}; BANGER_FUZZ_SEED=${SEED} runs it again`);

test(
  `the decoder takes ${FRAMES_TO_DECODE} frames, spoilt ones among them, and throws only its own error`,
  () => {
    const chance = chanceOf(SEED);
    for (let frames = 0; frames < FRAMES_TO_DECODE;) {
      const count = 1 + below(chance, 50);
      const names = chance() < 0.8 ? namesTo("host") : NAMES;
      const good = Buffer.concat(Array.from({ length: count }, () => encoded(frameOf(chance, pick(chance, names)))));
      const stream = chance() < 0.7 ? spoil(chance, good) : good;
      frames += count;
      const decoder = new FrameDecoder("host");
      let out = 0;
      try {
        for (const piece of cut(chance, stream)) {
          decoder.feed(piece);
          for (let frame = decoder.next(); frame !== null; frame = decoder.next())
            out += HEADER_BYTES + ("bytes" in frame && typeof frame.bytes !== "number" ? frame.bytes.length : 0);
        }
      } catch (thrown) {
        expect(thrown).toBeInstanceOf(BangerError);
        expect((thrown as BangerError).code).toBe("GUEST_FAILED");
      }
      expect(out).toBeLessThanOrEqual(stream.length);
    }
  },
  TIMEOUT_MS,
);

/** More than the window. */
const STDIN = Buffer.alloc(300_000);

/** A guest's end in this process: answers the hello, sends the stream in pieces, and closes. */
function hostileStream(
  chance: Chance,
  stream: Buffer,
): { readonly duplex: Duplex; readonly decoder: FrameDecoder<"guest"> } {
  const decoder = new FrameDecoder("guest");
  let isGreeted = false;
  const duplex = new Duplex({
    read: () => {},
    write: (chunk: Buffer, _, done) => {
      if (isGreeted) decoder.feed(chunk);
      else {
        isGreeted = true;
        duplex.push(AgentPeer.answer(chunk.subarray(MAGIC_BYTES, MAGIC_BYTES + NONCE_BYTES)));
        for (const piece of cut(chance, stream)) duplex.push(piece);
        duplex.push(null);
      }
      done();
    },
  });
  return { duplex, decoder };
}

/** What an honest agent may say to an exec, mostly. */
function execStream(chance: Chance): Buffer {
  const frames = [encodeFrame("started", { pid: 1 + below(chance, 1000) })];
  for (let i = below(chance, 8); i > 0; i--) {
    const name = pick(chance, ["stdout", "stderr", "stdout", "credit"] as const);
    if (name === "credit") frames.push(encodeFrame("credit", { bytes: pick(chance, [1, 100, 1000, 262_144, 0]) }));
    else frames.push(encoded(frameOf(chance, name)));
  }
  if (chance() < 0.1) frames.push(encoded(frameOf(chance, pick(chance, NAMES))));
  const times = { userMicroseconds: 1n, systemMicroseconds: 2n, wallMicroseconds: 3n, peakKib: 4n };
  frames.push(encodeFrame("exited", { status: below(chance, 256), signal: 0, flags: below(chance, 4), ...times }));
  const good = Buffer.concat(frames);
  return chance() < 0.7 ? spoil(chance, good) : good;
}

async function runExec(chance: Chance): Promise<AgentExit | BangerError> {
  const stream = execStream(chance);
  const { duplex, decoder } = hostileStream(chance, stream);
  let output = 0;
  let input = 0;
  const isSlow = chance() < 0.5;
  const sink = (bytes: Uint8Array): Promise<void> | undefined => {
    output += bytes.length;
    return isSlow ? Promise.resolve() : undefined;
  };
  const settled = (async () => {
    const channel = await openAgentChannelOver(duplex, { kind: "vsock", timeoutMs: 20_000 });
    const running = await startExec(channel, { argv: ["x"], env: [] }, { stdout: sink, stderr: sink });
    const writing = running.writeStdin(STDIN.subarray(0, chance() < 0.1 ? STDIN.length : 1000));
    const exit = await running.exited;
    await writing;
    return exit;
  })();
  const result = await settled.catch((thrown: unknown) => thrown as BangerError);
  for (let frame = decoder.next(); frame !== null; frame = decoder.next())
    if (frame.name === "stdin") input += frame.bytes.length;
  expect(output).toBeLessThanOrEqual(stream.length);
  expect(input).toBeLessThanOrEqual(AGENT_LIMITS.stdinWindowBytes + 262_144 * 2);
  expect(duplex.destroyed).toBe(true);
  return result;
}

async function runQuestion(chance: Chance): Promise<unknown> {
  const good = Buffer.concat(
    Array.from({ length: 1 + below(chance, 4) }, () =>
      encoded(frameOf(chance, pick(chance, ["counters", "listener", "done", "ready", "error"] as const))),
    ),
  );
  const { duplex } = hostileStream(chance, chance() < 0.6 ? spoil(chance, good) : good);
  const patience = { timeoutMs: 20_000 };
  const channel = await openAgentChannelOver(duplex, { kind: "vsock", ...patience });
  const result = await answerOf(channel, encodeFrame("usage", {}), patience, ({ name }) =>
    name === "done" ? name : null,
  ).catch((thrown: unknown) => thrown as BangerError);
  expect(duplex.destroyed).toBe(true);
  return result;
}

describe(`of ${SESSIONS} hostile sessions, each`, () => {
  test.each([
    ["exec ends with an exit or one error of banger's", runExec, ["EXEC_FAILED"]],
    ["question ends with an answer or one error of banger's", runQuestion, ["GUEST_FAILED", "GUEST_NOT_READY"]],
  ] as const)(
    "%s",
    async (_, run, codes) => {
      const unhandled: unknown[] = [];
      const note = (thrown: unknown): void => void unhandled.push(thrown);
      process.on("unhandledRejection", note);
      const ends = new Map<string, number>();
      try {
        for (let i = 0; i < SESSIONS; i++) {
          const seed = (SEED + i) >>> 0;
          const result = await run(chanceOf(seed));
          const end = result instanceof BangerError ? result.code : result instanceof Error ? String(result) : "fine";
          if (end !== "fine" && !(codes as readonly string[]).includes(end)) throw new Error(`seed ${seed}: ${end}`);
          ends.set(end, (ends.get(end) ?? 0) + 1);
        }
      } finally {
        process.off("unhandledRejection", note);
      }
      expect(unhandled).toEqual([]);
      // Streams that are all refused, or all taken, would test nothing.
      for (const end of ["fine", ...codes.slice(0, 1)]) expect(ends.get(end) ?? 0).toBeGreaterThan(SESSIONS / 50);
    },
    TIMEOUT_MS,
  );
});
