/** Small synthetic kernels: just enough ELF and bzImage for what reads them. */

const PAGE = 64;
const PROGRAM_HEADER_BYTES = 56;

/** An x86-64 executable with one segment over the whole file, and a kernel's banner when asked for. */
export function makeElf(options: { readonly bytes: number; readonly release?: string }): Uint8Array {
  const elf = Buffer.alloc(options.bytes);
  for (let index = 512; index < elf.length; index++) elf[index] = (index * 31) & 0xff;
  const segments = [{ kind: 1, offset: 0, size: elf.length }];
  elf.write("\x7fELF\x02\x01\x01", 0, "latin1");
  elf.writeUInt16LE(2, 16);
  elf.writeUInt16LE(62, 18);
  elf.writeBigUInt64LE(BigInt(PAGE), 32);
  elf.writeUInt16LE(PROGRAM_HEADER_BYTES, 54);
  elf.writeUInt16LE(segments.length, 56);
  segments.forEach(({ kind, offset, size }, index) => {
    const at = PAGE + index * PROGRAM_HEADER_BYTES;
    elf.writeUInt32LE(kind, at);
    elf.writeBigUInt64LE(BigInt(offset), at + 8);
    elf.writeBigUInt64LE(BigInt(size), at + 32);
  });
  if (options.release !== undefined)
    elf.write(`Linux version %s (%s)\nLinux version ${options.release} (builder) #1\n`, 1024);
  return elf;
}

/** A bzImage around a packed kernel. `unpackedBytes` null: the packed form ends with the size by itself (gzip). */
export function makeBzImage(
  packed: Uint8Array,
  unpackedBytes: number | null,
  options: { readonly setupSectors?: number; readonly payloadOffset?: number } = {},
): Uint8Array {
  const { setupSectors = 27, payloadOffset = 0x2cd } = options;
  const sizeWord = Buffer.alloc(unpackedBytes === null ? 0 : 4);
  if (unpackedBytes !== null) sizeWord.writeUInt32LE(unpackedBytes);
  const start = (setupSectors + 1) * 512 + payloadOffset;
  const image = Buffer.alloc(start + packed.length + sizeWord.length);
  image.writeUInt8(setupSectors, 0x1f1);
  image.writeUInt16LE(0xaa55, 0x1fe);
  image.write("HdrS", 0x202);
  image.writeUInt16LE(0x20f, 0x206);
  image.writeUInt32LE(payloadOffset, 0x248);
  image.writeUInt32LE(packed.length + sizeWord.length, 0x24c);
  image.set(packed, start);
  image.set(sizeWord, start + packed.length);
  return image;
}

/**
 * Whether a kernel has the note XEN_ELFNOTE_PHYS32_ENTRY (18): the entry point of a PVH boot, which QEMU's microvm uses.
 * Its description is an address of 4 or 8 bytes.
 */
export function hasPvhEntry(elf: Buffer): boolean {
  return [4, 8].some((addressBytes) =>
    elf.includes(Buffer.from([4, 0, 0, 0, addressBytes, 0, 0, 0, 18, 0, 0, 0, ...Buffer.from("Xen\0")])),
  );
}

/** Bytes through a program that packs its standard input. */
export async function packWith(argv: readonly string[], bytes: Uint8Array): Promise<Uint8Array> {
  const child = Bun.spawn([...argv], { stdin: bytes, stdout: "pipe", stderr: "ignore" });
  const packed = new Uint8Array(await new Response(child.stdout).arrayBuffer());
  if ((await child.exited) !== 0) throw new Error(`${argv[0]} failed`);
  return packed;
}
