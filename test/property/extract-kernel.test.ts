/** Whatever the bytes are, extraction ends with a kernel or KERNEL_INVALID. */

import { expect, test } from "bun:test";
import { gzipSync, zstdCompressSync } from "node:zlib";
import fc from "fast-check";
import { extractKernel } from "../../src/daemon/kernel/extract.ts";
import { BangerError } from "../../src/shared/errors.ts";
import { makeBzImage, makeElf } from "../support/kernels.ts";

const elf = makeElf({ bytes: 6000 });
const images = [makeBzImage(zstdCompressSync(elf), elf.length), makeBzImage(gzipSync(elf), null), elf];

async function outcome(bytes: Uint8Array): Promise<"kernel" | "KERNEL_INVALID"> {
  try {
    await extractKernel(bytes, () => Promise.reject(new BangerError("KERNEL_INVALID", "no tool in this test")));
    return "kernel";
  } catch (thrown) {
    if (thrown instanceof BangerError && thrown.code === "KERNEL_INVALID") return "KERNEL_INVALID";
    throw thrown;
  }
}

test("mutated kernels", async () => {
  const mutation = fc.record({ at: fc.nat(20_000), byte: fc.nat(255) });
  await fc.assert(
    fc.asyncProperty(
      fc.constantFrom(...images),
      fc.array(mutation, { minLength: 1, maxLength: 8 }),
      async (image, mutations) => {
        const bytes = Uint8Array.from(image);
        for (const { at, byte } of mutations) bytes[at % bytes.length] = byte;
        expect(["kernel", "KERNEL_INVALID"]).toContain(await outcome(bytes));
      },
    ),
    { numRuns: 600 },
  );
});

test("headers full of any numbers", async () => {
  const word = fc.oneof(fc.constantFrom(0, 1, 4, 0x7fff_ffff, 0x8000_0000, 0xffff_ffff), fc.nat(0xffff));
  await fc.assert(
    fc.asyncProperty(word, word, fc.nat(255), word, async (offset, length, sectors, size) => {
      const bytes = Buffer.from(images[0] ?? []);
      bytes.writeUInt8(sectors, 0x1f1);
      bytes.writeUInt32LE(offset, 0x248);
      bytes.writeUInt32LE(length, 0x24c);
      bytes.writeUInt32LE(size, bytes.length - 4);
      expect(["kernel", "KERNEL_INVALID"]).toContain(await outcome(bytes));
    }),
    { numRuns: 600 },
  );
});

test("a file cut anywhere is refused", async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.constantFrom(...images),
      fc.double({ min: 0, max: 1, maxExcluded: true, noNaN: true }),
      async (image, part) => {
        expect(await outcome(image.subarray(0, Math.floor(image.length * part)))).toBe("KERNEL_INVALID");
      },
    ),
    { numRuns: 300 },
  );
});

test("any bytes", async () => {
  await fc.assert(
    fc.asyncProperty(fc.uint8Array({ maxLength: 2000 }), async (bytes) => {
      expect(["kernel", "KERNEL_INVALID"]).toContain(await outcome(bytes));
    }),
  );
});
