/**
 * Gets the ELF kernel out of what distributions ship. Source: the kernel's Documentation/arch/x86/boot.rst ("The
 * Real-Mode Kernel Header"); elf(5). The bytes are untrusted: every offset is checked, every output is bounded.
 */

import { gunzipSync, zstdDecompressSync } from "node:zlib";
import { BangerError } from "../../shared/errors.ts";

/** No kernel is larger; a payload that wants more is a bomb. */
export const KERNEL_LIMIT_BYTES = 256 * 1024 ** 2;

export type Compression = "zstd" | "gzip" | "xz" | "lz4";

/** The compressed kernel inside a bzImage. */
export interface Payload {
  readonly compression: Compression;
  /** Without the size word that ends it. */
  readonly bytes: Uint8Array;
  /** Size of the ELF, as the build wrote it behind the payload. */
  readonly unpackedBytes: number;
}

/** Decompresses a form that Bun has no decoder for, into at most `limitBytes`; raises KERNEL_INVALID or TOOL_MISSING. */
export type Decompress = (compression: "xz" | "lz4", bytes: Uint8Array, limitBytes: number) => Promise<Uint8Array>;

const BOOT_FLAG_OFFSET = 0x1fe;
const BOOT_FLAG = 0xaa55;
const HEADER_MAGIC_OFFSET = 0x202;
const HEADER_MAGIC = "HdrS";
/** payload_offset and payload_length came with this one. */
const PROTOCOL_WITH_PAYLOAD = 0x208;
const HEADER_END = 0x250;
const SECTOR_BYTES = 512;
const SIZE_WORD_BYTES = 4;

const MAGICS: readonly { readonly compression: Compression; readonly magic: readonly number[] }[] = [
  { compression: "zstd", magic: [0x28, 0xb5, 0x2f, 0xfd] },
  { compression: "gzip", magic: [0x1f, 0x8b] },
  { compression: "xz", magic: [0xfd, 0x37, 0x7a, 0x58, 0x5a, 0x00] },
  { compression: "lz4", magic: [0x02, 0x21, 0x4c, 0x18] },
];

const invalid = (why: string, cause?: unknown): BangerError =>
  new BangerError("KERNEL_INVALID", why, cause === undefined ? {} : { cause });

const startsWith = (bytes: Uint8Array, magic: readonly number[]): boolean =>
  magic.every((byte, index) => bytes[index] === byte);

export function isElf(bytes: Uint8Array): boolean {
  return startsWith(bytes, [0x7f, 0x45, 0x4c, 0x46]);
}

export function isBzImage(bytes: Uint8Array): boolean {
  if (bytes.length < HEADER_END) return false;
  const view = viewOf(bytes);
  return (
    view.getUint16(BOOT_FLAG_OFFSET, true) === BOOT_FLAG &&
    text(bytes, HEADER_MAGIC_OFFSET, HEADER_MAGIC.length) === HEADER_MAGIC
  );
}

/**
 * The ELF kernel of a vmlinux or bzImage.
 * @throws BangerError KERNEL_INVALID for anything else, and for one that is damaged or for another machine.
 */
export async function extractKernel(bytes: Uint8Array, decompress: Decompress): Promise<Uint8Array> {
  if (isElf(bytes)) {
    checkElf(bytes);
    return bytes;
  }
  if (!isBzImage(bytes)) throw invalid("neither an ELF kernel (vmlinux) nor a bzImage (vmlinuz)");
  const payload = findPayload(bytes);
  const kernel = await unpack(payload, decompress);
  checkElf(kernel);
  return kernel;
}

/** Where the payload of a bzImage is and how it is packed. Raises KERNEL_INVALID. */
export function findPayload(bytes: Uint8Array): Payload {
  const view = viewOf(bytes);
  const protocol = view.getUint16(0x206, true);
  if (protocol < PROTOCOL_WITH_PAYLOAD) {
    throw invalid(
      `a bzImage of boot protocol ${protocol >> 8}.${String(protocol & 0xff).padStart(2, "0")}; 2.08 is the first that says where its kernel is`,
    );
  }
  // boot.rst: for backwards compatibility, 0 setup sectors means 4.
  const setupSectors = view.getUint8(0x1f1) || 4;
  const start = (setupSectors + 1) * SECTOR_BYTES + view.getUint32(0x248, true);
  const length = view.getUint32(0x24c, true);
  const end = start + length;
  if (length <= SIZE_WORD_BYTES || end > bytes.length)
    throw invalid("a bzImage whose kernel lies outside the file; it is cut off or damaged");
  const packed = bytes.subarray(start, end);
  const found = MAGICS.find(({ magic }) => startsWith(packed, magic));
  if (found === undefined)
    throw invalid("a bzImage packed in a way that banger does not know (it knows zstd, gzip, xz and lz4)");
  // The build appends the unpacked size; gzip's own trailer is the same word and belongs to its stream.
  const unpackedBytes = view.getUint32(end - SIZE_WORD_BYTES, true);
  return {
    compression: found.compression,
    bytes: found.compression === "gzip" ? packed : packed.subarray(0, -SIZE_WORD_BYTES),
    unpackedBytes,
  };
}

async function unpack(payload: Payload, decompress: Decompress): Promise<Uint8Array> {
  const { compression, bytes, unpackedBytes } = payload;
  if (unpackedBytes > KERNEL_LIMIT_BYTES) {
    throw invalid(`a bzImage that claims a kernel of ${unpackedBytes} bytes; the limit is ${KERNEL_LIMIT_BYTES}`);
  }
  const kernel = await decode(compression, bytes, unpackedBytes, decompress);
  if (kernel.length !== unpackedBytes)
    throw invalid(`a bzImage whose kernel is ${kernel.length} bytes where it says ${unpackedBytes}`);
  return kernel;
}

async function decode(
  compression: Compression,
  bytes: Uint8Array,
  limitBytes: number,
  decompress: Decompress,
): Promise<Uint8Array> {
  // One byte more than said, so that "too much" shows as a wrong size at the latest.
  const maxOutputLength = limitBytes + 1;
  try {
    switch (compression) {
      case "zstd":
        return zstdDecompressSync(bytes, { maxOutputLength });
      case "gzip":
        return gunzipSync(bytes, { maxOutputLength });
      case "xz":
      case "lz4":
        return await decompress(compression, bytes, maxOutputLength);
    }
  } catch (thrown) {
    if (thrown instanceof BangerError) throw thrown;
    throw invalid(`a bzImage whose ${compression} payload is damaged`, thrown);
  }
}

/** Raises KERNEL_INVALID unless this is an executable for x86-64 with all its segments in the file. */
export function checkElf(bytes: Uint8Array): void {
  if (!isElf(bytes) || bytes.length < 64) throw invalid("not an ELF file");
  const view = viewOf(bytes);
  const is64LittleEndian = view.getUint8(4) === 2 && view.getUint8(5) === 1;
  if (!is64LittleEndian || view.getUint16(18, true) !== 62) throw invalid("an ELF file, not for x86-64");
  const type = view.getUint16(16, true);
  if (type !== 2 && type !== 3) throw invalid("an ELF file, not an executable kernel");
  const segments = programHeaders(bytes);
  if (!segments.some(({ kind }) => kind === SEGMENT_LOAD)) throw invalid("an ELF file with nothing to load");
  for (const { kind, offset, size } of segments) {
    if (kind === SEGMENT_LOAD && offset + size > bytes.length) throw invalid("an ELF kernel that is cut off");
  }
}

const SEGMENT_LOAD = 1;

/** The release in the kernel's own banner ("Linux version 6.12.1-amd64 (…"), null when it has none. */
export function findKernelRelease(bytes: Uint8Array): string | null {
  const marker = "Linux version ";
  const buffer = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  for (let at = buffer.indexOf(marker); at !== -1; at = buffer.indexOf(marker, at + 1)) {
    const release = /^[0-9]+\.[0-9]+[A-Za-z0-9.+~_-]*(?= )/.exec(
      buffer.toString("latin1", at + marker.length, at + marker.length + 80),
    );
    if (release !== null) return release[0];
  }
  return null;
}

interface Segment {
  readonly kind: number;
  readonly offset: number;
  readonly size: number;
}

function programHeaders(bytes: Uint8Array): readonly Segment[] {
  const view = viewOf(bytes);
  const table = toNumber(view.getBigUint64(32, true));
  const entryBytes = view.getUint16(54, true);
  const count = view.getUint16(56, true);
  if (entryBytes < 56 || table + entryBytes * count > bytes.length)
    throw invalid("an ELF kernel with a damaged segment table");
  return Array.from({ length: count }, (_, index) => {
    const at = table + index * entryBytes;
    return {
      kind: view.getUint32(at, true),
      offset: toNumber(view.getBigUint64(at + 8, true)),
      size: toNumber(view.getBigUint64(at + 32, true)),
    };
  });
}

/** Without the sign that bit operations give large lengths. */
/** Exact up to 2^53; beyond, large enough to be out of every file. */
const toNumber = (value: bigint): number => Number(value);
const viewOf = (bytes: Uint8Array): DataView => new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
const text = (bytes: Uint8Array, offset: number, length: number): string =>
  Buffer.from(bytes.subarray(offset, offset + length)).toString("latin1");
