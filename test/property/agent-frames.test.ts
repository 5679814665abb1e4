/** The codec of the agent's frames, for every frame of the table and every cut of the stream. */

import { expect, test } from "bun:test";
import fc from "fast-check";
import { FrameDecoder, type FrameTo } from "../../src/shared/agent/frames.ts";
import { AGENT_LIMITS } from "../../src/shared/agent/protocol.ts";
import { BangerError } from "../../src/shared/errors.ts";
import { type AnyFrame, chanceOf, cut, encoded, frameOf, namesTo, pick, spoil } from "../support/random-frames.ts";

const RUNS = { numRuns: 500 };
const seeds = fc.integer({ min: 0, max: 2 ** 32 - 1 });

/** All frames of a stream in these pieces; what was thrown, last. */
function decodeAll(to: "guest" | "host", pieces: Iterable<Buffer>): (FrameTo<"guest" | "host"> | BangerError)[] {
  const decoder = new FrameDecoder(to);
  const found: (FrameTo<"guest" | "host"> | BangerError)[] = [];
  try {
    for (const piece of pieces) {
      decoder.feed(piece);
      for (let frame = decoder.next(); frame !== null; frame = decoder.next()) found.push(frame);
    }
  } catch (thrown) {
    if (!(thrown instanceof BangerError)) throw thrown;
    found.push(thrown);
  }
  return found;
}

test.each(["guest", "host"] as const)("what goes to the %s comes out as it went in, however it is cut", (to) => {
  fc.assert(
    fc.property(seeds, fc.integer({ min: 1, max: 30 }), (seed, count) => {
      const chance = chanceOf(seed);
      const frames: AnyFrame[] = Array.from({ length: count }, () => frameOf(chance, pick(chance, namesTo(to))));
      const stream = Buffer.concat(frames.map(encoded));
      expect(decodeAll(to, cut(chance, stream)) as unknown[]).toEqual(frames);
    }),
    RUNS,
  );
});

test("any cut of a hostile stream gives the same frames and the same error", () => {
  fc.assert(
    fc.property(seeds, fc.integer({ min: 1, max: 10 }), (seed, count) => {
      const chance = chanceOf(seed);
      const names = namesTo("host");
      const good = Buffer.concat(Array.from({ length: count }, () => encoded(frameOf(chance, pick(chance, names)))));
      const stream = spoil(chance, good);
      const summarize = (all: readonly (object | BangerError)[]): unknown[] =>
        all.map((one) => (one instanceof BangerError ? one.message : one));
      expect(summarize(decodeAll("host", cut(chance, stream)))).toEqual(summarize(decodeAll("host", [stream])));
    }),
    RUNS,
  );
});

test("the decoder holds one payload at most, whatever lengths are announced", () => {
  const real = Buffer.allocUnsafe;
  let most = 0;
  Buffer.allocUnsafe = (size) => {
    most = Math.max(most, size);
    return real(size);
  };
  try {
    fc.assert(
      fc.property(seeds, (seed) => {
        const chance = chanceOf(seed);
        const stream = encoded(frameOf(chance, "stdout"));
        for (let i = 0; i < 5; i++) decodeAll("host", cut(chance, spoil(chance, stream)));
      }),
      RUNS,
    );
  } finally {
    Buffer.allocUnsafe = real;
  }
  expect(most).toBeLessThanOrEqual(AGENT_LIMITS.payloadBytes + 5);
});
