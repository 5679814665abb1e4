import { expect, test } from "bun:test";
import { GrowingBytes } from "../../../../src/shared/streams/growing-bytes.ts";

test("pieces become one, and none of them is kept", () => {
  const all = new GrowingBytes();
  const wanted: number[] = [];
  const piece = new Uint8Array(1000);
  for (let i = 0; i < 200; i++) {
    piece.fill(i);
    all.push(piece.subarray(0, i));
    wanted.push(...Array.from({ length: i }, () => i));
  }
  expect(all.length).toBe(wanted.length);
  expect(all.bytes.equals(Buffer.from(wanted))).toBe(true);
  expect(new GrowingBytes().bytes.length).toBe(0);
});

test("many small pieces of large chunks take about their own size", () => {
  const all = new GrowingBytes();
  Bun.gc(true);
  const before = process.memoryUsage().arrayBuffers;
  for (let i = 0; i < 2000; i++) all.push(Buffer.alloc(256 * 1024).subarray(5, 6));
  Bun.gc(true);
  expect(all.length).toBe(2000);
  expect(process.memoryUsage().arrayBuffers - before).toBeLessThan(50 * 1024 * 1024);
});
