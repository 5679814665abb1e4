import { describe, expect, test } from "bun:test";
import { gzipSync, zstdCompressSync } from "node:zlib";
import { decompressByTool } from "../../../../src/daemon/kernel/decompress.ts";
import { extractKernel, findKernelRelease, findPayload } from "../../../../src/daemon/kernel/extract.ts";
import { toolPath } from "../../../../src/daemon/host/run-tool.ts";
import { makeBzImage, makeElf, packWith } from "../../../support/kernels.ts";

const elf = makeElf({ bytes: 20_000, release: "6.12.1+deb13-cloud-amd64" });
const hasTool = (name: string): boolean => Bun.which(name, { PATH: toolPath() }) !== null;
const code = async (bytes: Uint8Array): Promise<string> =>
  await extractKernel(bytes, decompressByTool).then(
    () => "none",
    (thrown: { code?: string }) => thrown.code ?? String(thrown),
  );

describe("extractKernel", () => {
  test("gives an ELF as it is", async () => {
    expect(await extractKernel(elf, decompressByTool)).toBe(elf);
  });

  test("zstd", async () => {
    expect(Buffer.from(await extractKernel(makeBzImage(zstdCompressSync(elf), elf.length), decompressByTool))).toEqual(
      Buffer.from(elf),
    );
  });

  test("gzip, whose own trailer is the size word", async () => {
    expect(Buffer.from(await extractKernel(makeBzImage(gzipSync(elf), null), decompressByTool))).toEqual(
      Buffer.from(elf),
    );
  });

  for (const [name, argv] of [
    ["xz", ["xz", "-c", "--check=crc32"]],
    ["lz4", ["lz4", "-l", "-c"]],
  ] as const) {
    test.skipIf(!hasTool(name))(name, async () => {
      const image = makeBzImage(await packWith(argv, elf), elf.length);
      expect(Buffer.from(await extractKernel(image, decompressByTool))).toEqual(Buffer.from(elf));
    });
  }

  test("zero setup sectors mean four", async () => {
    const image = makeBzImage(zstdCompressSync(elf), elf.length, { setupSectors: 4 });
    image[0x1f1] = 0;
    expect((await extractKernel(image, decompressByTool)).length).toBe(elf.length);
  });

  test("refuses what is no kernel, with KERNEL_INVALID", async () => {
    const good = makeBzImage(zstdCompressSync(elf), elf.length);
    const old = Uint8Array.from(good);
    old[0x206] = 7;
    const arm = Uint8Array.from(elf);
    arm[18] = 183;
    expect(await code(new Uint8Array())).toBe("KERNEL_INVALID");
    expect(await code(Buffer.from("#!/bin/sh\n".repeat(100)))).toBe("KERNEL_INVALID");
    expect(await code(good.subarray(0, good.length - 1))).toBe("KERNEL_INVALID");
    expect(await code(old)).toBe("KERNEL_INVALID");
    expect(await code(arm)).toBe("KERNEL_INVALID");
    expect(await code(elf.subarray(0, elf.length - 1))).toBe("KERNEL_INVALID");
    expect(await code(makeBzImage(Buffer.from("not packed in any known way"), 27))).toBe("KERNEL_INVALID");
    expect(await code(makeBzImage(zstdCompressSync(Buffer.from("no ELF inside")), 13))).toBe("KERNEL_INVALID");
  });

  test("refuses a payload of another size than said: more, less, or beyond the limit", async () => {
    const bomb = zstdCompressSync(Buffer.alloc(64 * 1024 * 1024));
    expect(await code(makeBzImage(bomb, elf.length))).toBe("KERNEL_INVALID");
    expect(await code(makeBzImage(zstdCompressSync(elf), elf.length + 1))).toBe("KERNEL_INVALID");
    expect(await code(makeBzImage(zstdCompressSync(elf), 0xffff_ffff))).toBe("KERNEL_INVALID");
  });

  test.skipIf(!hasTool("xz"))("ends an xz bomb at the size it said", async () => {
    const bomb = await packWith(["xz", "-c", "--check=crc32"], Buffer.alloc(64 * 1024 * 1024));
    expect(await code(makeBzImage(bomb, 4096))).toBe("KERNEL_INVALID");
  });
});

test("findPayload leaves the size word out", () => {
  const packed = zstdCompressSync(elf);
  const payload = findPayload(makeBzImage(packed, elf.length));
  expect(payload.compression).toBe("zstd");
  expect(payload.unpackedBytes).toBe(elf.length);
  expect(Buffer.from(payload.bytes)).toEqual(packed);
});

test("findKernelRelease reads the banner, not the format string before it", () => {
  expect(findKernelRelease(elf)).toBe("6.12.1+deb13-cloud-amd64");
  expect(findKernelRelease(makeElf({ bytes: 4096 }))).toBeNull();
});
