import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { BangerError } from "../../../../src/shared/errors.ts";
import { encodeFrame, FRAME_LIMIT_BYTES, FrameDecoder } from "../../../../src/shared/contract/frames.ts";

const header = (length: number): Uint8Array => {
  const bytes = new Uint8Array(4);
  new DataView(bytes.buffer).setUint32(0, length);
  return bytes;
};
const frameOf = (body: Uint8Array): Uint8Array => new Uint8Array([...header(body.length), ...body]);

describe("frames", () => {
  test("any JSON value survives any split into chunks", () => {
    fc.assert(
      fc.property(fc.jsonValue(), fc.array(fc.integer({ min: 1, max: 9 }), { maxLength: 50 }), (value, cuts) => {
        const frame = encodeFrame(value);
        const decoder = new FrameDecoder();
        let at = 0;
        let got: { readonly value: unknown } | undefined;
        for (const cut of [...cuts, frame.length]) {
          if (at >= frame.length) break;
          got = decoder.push(frame.subarray(at, at + cut));
          at += cut;
          if (at < frame.length) expect(got).toBeUndefined();
        }
        expect(JSON.stringify(got?.value)).toBe(JSON.stringify(value));
      }),
    );
  });

  test.each([
    ["an announced length over the limit, before any body", header(FRAME_LIMIT_BYTES + 1)],
    ["the largest length there is", header(0xffff_ffff)],
    ["an empty body", header(0)],
    ["bytes after the end", new Uint8Array([...encodeFrame(1), 0])],
    ["what isn't JSON", frameOf(new TextEncoder().encode("{"))],
    ["what isn't UTF-8", frameOf(new Uint8Array([0x22, 0xff, 0x22]))],
  ])("refuses %s", (_, bytes) => {
    expect(() => new FrameDecoder().push(bytes)).toThrow(BangerError);
  });

  test("takes exactly the limit and refuses to make more", () => {
    const longest = "x".repeat(FRAME_LIMIT_BYTES - 2);
    expect(new FrameDecoder().push(encodeFrame(longest))?.value).toBe(longest);
    expect(() => encodeFrame(`${longest}x`)).toThrow(BangerError);
  });

  test("a decoder takes one frame only", () => {
    const decoder = new FrameDecoder();
    decoder.push(encodeFrame({}));
    expect(() => decoder.push(new Uint8Array([0]))).toThrow(BangerError);
  });
});
