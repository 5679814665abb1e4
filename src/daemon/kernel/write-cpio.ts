/**
 * Writes a cpio archive in the "newc" form the kernel reads.
 * Source: Documentation/driver-api/early-userspace/buffer-format.rst.
 *
 * By hand: cpio(1) packs a device node only from one on disk, which only root can make.
 */

export interface CpioEntry {
  readonly path: string;
  /** Type and permissions, as in st_mode. */
  readonly mode: number;
  readonly contents?: Uint8Array;
  /** Device number of a device node. */
  readonly device?: { readonly major: number; readonly minor: number };
}

const TRAILER = "TRAILER!!!";

export function writeCpio(entries: readonly CpioEntry[]): Uint8Array {
  const parts: Uint8Array[] = [];
  const add = (entry: CpioEntry, inode: number): void => {
    const name = Buffer.from(`${entry.path}\0`);
    const contents = entry.contents ?? new Uint8Array();
    const fields = [
      inode,
      entry.mode,
      0,
      0,
      1,
      0,
      contents.length,
      0,
      0,
      entry.device?.major ?? 0,
      entry.device?.minor ?? 0,
      name.length,
      0,
    ];
    const header = Buffer.from(`070701${fields.map((field) => field.toString(16).padStart(8, "0")).join("")}`);
    parts.push(header, name, padding(header.length + name.length), contents, padding(contents.length));
  };
  entries.forEach((entry, index) => add(entry, index + 1));
  add({ path: TRAILER, mode: 0 }, 0);
  return Buffer.concat(parts);
}

const padding = (length: number): Uint8Array => Buffer.alloc(-length & 3);
