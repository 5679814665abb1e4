/** Tells whether an executable needs a loader. Source: elf(5). */

/** How many bytes from the start of a file to read: the header and up to 72 program headers. */
export const ELF_HEAD_BYTES = 4096;
const HEADER_BYTES = 64;
const PROGRAM_HEADER_BYTES = 56;
const PT_INTERP = 3;

/**
 * True if these bytes start a 64-bit, little-endian ELF file that names no program interpreter, so that no shared
 * library is loaded with it. False for anything else, and if it can't be determined. Pure.
 */
export function isStaticElf(head: Uint8Array): boolean {
  if (head.length < HEADER_BYTES) return false;
  const view = new DataView(head.buffer, head.byteOffset, head.byteLength);
  if (view.getUint32(0) !== 0x7f45_4c46 || head[4] !== 2 || head[5] !== 1) return false;
  const offset = view.getBigUint64(32, true);
  const size = view.getUint16(54, true);
  const count = view.getUint16(56, true);
  if (size < PROGRAM_HEADER_BYTES || offset + BigInt(size * count) > BigInt(head.length)) return false;
  return Array.from({ length: count }, (_, index) => Number(offset) + index * size).every(
    (at) => view.getUint32(at, true) !== PT_INTERP,
  );
}
