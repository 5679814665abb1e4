import { describe, expect, test } from "bun:test";
import { encodeFrame, FrameDecoder } from "../../../../src/shared/agent/frames.ts";
import { AGENT_LIMITS, FRAMES, HEADER_BYTES } from "../../../../src/shared/agent/protocol.ts";
import { BangerError } from "../../../../src/shared/errors.ts";

function header(length: number, type: number): Buffer {
  const bytes = Buffer.alloc(HEADER_BYTES);
  bytes.writeUInt32LE(length);
  bytes[4] = type;
  return bytes;
}

test("a frame is its payload's length, its type, and the payload, little-endian", () => {
  expect(encodeFrame("resize", { rows: 0x0102, columns: 3 })).toEqual(Buffer.from([4, 0, 0, 0, 9, 2, 1, 3, 0]));
  expect(encodeFrame("clock", { seconds: 1n, nanoseconds: 2 }).toString("hex")).toBe(
    "0c0000000b010000000000000002000000",
  );
  expect(encodeFrame("error", { code: 4, errno: -1, bytes: Buffer.from("x") }).toString("hex")).toBe(
    "07000000850400ffffffff78",
  );
});

test("a frame is decoded as it was encoded", () => {
  const decoder = new FrameDecoder("host");
  const exited = {
    status: -1,
    signal: 255,
    flags: 3,
    userMicroseconds: 2n ** 64n - 1n,
    systemMicroseconds: 0n,
    wallMicroseconds: 1n,
    peakKib: 2n,
  };
  decoder.feed(Buffer.concat([encodeFrame("exited", exited), encodeFrame("stdout", { bytes: Buffer.from("hi") })]));
  expect(decoder.next()).toEqual({ name: "exited", ...exited });
  expect(decoder.next()).toEqual({ name: "stdout", bytes: Buffer.from("hi") });
  expect(decoder.next()).toBeNull();
});

test("what doesn't fit is not encoded", () => {
  expect(() => encodeFrame("stdin", { bytes: Buffer.alloc(AGENT_LIMITS.payloadBytes + 1) })).toThrow(RangeError);
  expect(() => encodeFrame("user", { bytes: Buffer.alloc(AGENT_LIMITS.userBytes + 1) })).toThrow(RangeError);
  expect(() => encodeFrame("signal", { number: 256 })).toThrow(RangeError);
  expect(() => encodeFrame("resize", { rows: -1, columns: 0 })).toThrow(RangeError);
});

/** Each refused by its header alone, before any of its payload. */
describe("the decoder refuses", () => {
  const to = (side: "guest" | "host") =>
    Object.entries(FRAMES)
      .filter(([, frame]) => frame.to === side)
      .map(([name, { type }]) => [name, type] as const);
  const refuse = (bytes: Buffer): void => {
    const decoder = new FrameDecoder("host");
    decoder.feed(bytes);
    expect(() => decoder.next()).toThrow(BangerError);
    const slow = new FrameDecoder("host");
    for (const byte of bytes.subarray(0, -1)) {
      slow.feed(Uint8Array.of(byte));
      expect(slow.next()).toBeNull();
    }
    slow.feed(bytes.subarray(-1));
    expect(() => slow.next()).toThrow("the guest's agent broke the protocol: ");
  };

  test("every type that the table doesn't have", () => {
    const known = new Set<number>(Object.values(FRAMES).map(({ type }) => type));
    const unknown = Array.from({ length: 256 }, (_, type) => type).filter((type) => !known.has(type));
    expect(unknown).toContain(0);
    for (const type of unknown) refuse(header(0, type));
  });
  test.each(to("guest"))("the other direction's %s", (_, type) => refuse(header(0, type)));
  test.each(to("host"))("a length over the limit: %s", (_, type) => {
    for (const length of [AGENT_LIMITS.payloadBytes + 1, 0x7fff_ffff, 0x8000_0000, 0xffff_ffff])
      refuse(header(length, type));
  });
  test.each<[keyof typeof FRAMES, readonly number[]]>([
    ["started", [0, 3, 5]],
    ["credit", [0, 3, 5]],
    ["exited", [0, 37, 39]],
    ["error", [0, 5, 6 + AGENT_LIMITS.errorBytes + 1]],
    ["done", [1]],
    ["ready", [0, 3, 4 + 37]],
    ["counters", [15, 17]],
    ["listener", [0, 1, 2 + AGENT_LIMITS.processBytes + 1]],
  ])("a length that is not %s's", (name, lengths) => {
    for (const length of lengths) refuse(header(length, FRAMES[name].type));
  });
});

test("a payload in one piece is not copied, and one in pieces is kept once", () => {
  const chunk = encodeFrame("stdout", { bytes: Buffer.alloc(1000, 1) });
  const decoder = new FrameDecoder("host");
  decoder.feed(chunk);
  const whole = decoder.next();
  expect(whole?.name === "stdout" && whole.bytes.buffer === chunk.buffer).toBe(true);
  decoder.feed(chunk.subarray(0, 500));
  expect(decoder.next()).toBeNull();
  decoder.feed(chunk.subarray(500));
  expect(decoder.next()).toEqual({ name: "stdout", bytes: Buffer.alloc(1000, 1) });
});
