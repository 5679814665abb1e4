import { expect, test } from "bun:test";
import fc from "fast-check";
import { ELF_HEAD_BYTES, isStaticElf } from "../../../src/shared/elf.ts";

const PT_LOAD = 1;
const PT_INTERP = 3;

/** The head of an ELF file with program headers of these types. */
function elf(types: readonly number[], { offset = 64, size = 56 } = {}): Uint8Array {
  const bytes = new Uint8Array(ELF_HEAD_BYTES);
  bytes.set([0x7f, 0x45, 0x4c, 0x46, 2, 1, 1]);
  const view = new DataView(bytes.buffer);
  view.setBigUint64(32, BigInt(offset), true);
  view.setUint16(54, size, true);
  view.setUint16(56, types.length, true);
  for (const [index, type] of types.entries()) view.setUint32(offset + index * size, type, true);
  return bytes;
}

test("a program without an interpreter is static, one with it is not", async () => {
  expect(isStaticElf(elf([PT_LOAD, PT_LOAD]))).toBe(true);
  expect(isStaticElf(elf([PT_LOAD, PT_INTERP]))).toBe(false);
  const shell = new Uint8Array(await Bun.file("/bin/sh").arrayBuffer());
  expect(isStaticElf(shell.subarray(0, ELF_HEAD_BYTES))).toBe(false);
});

test("what can't be told to be static isn't", () => {
  const good = elf([PT_LOAD]);
  for (const [at, value] of [
    [0, 0],
    // 32 bits, the other byte order, headers that lie past what was read, or that are too small.
    [4, 1],
    [5, 2],
    [33, 0xff],
    [39, 0xff],
    [57, 0xff],
    [54, 8],
  ] as const) {
    const bytes = new Uint8Array(good);
    bytes[at] = value;
    expect(isStaticElf(bytes)).toBe(false);
  }
  expect(isStaticElf(good.subarray(0, 63))).toBe(false);
  expect(isStaticElf(good.subarray(0, 64))).toBe(false);
  expect(isStaticElf(new TextEncoder().encode("#!/bin/sh\n"))).toBe(false);
});

test("any bytes after an ELF header are read without failing", () => {
  fc.assert(
    fc.property(fc.uint8Array({ minLength: 0, maxLength: 400 }), (tail) => {
      expect(typeof isStaticElf(new Uint8Array([0x7f, 0x45, 0x4c, 0x46, 2, 1, ...tail]))).toBe("boolean");
    }),
  );
});
