/** Writes a POSIX ustar archive of root's files. Source: pax(1), "ustar Interchange Format". */

export type TarEntry =
  | { readonly kind: "directory"; readonly path: string; readonly mode: number }
  | { readonly kind: "file"; readonly path: string; readonly mode: number; readonly contents: string | Uint8Array }
  | { readonly kind: "link"; readonly path: string; readonly target: string };

const BLOCK_BYTES = 512;
const TYPE = { file: "0", link: "2", directory: "5" } as const;
/** The same time everywhere, so that the same input is the same archive. */
const MODIFIED_SECONDS = 0;

/** Paths are relative and at most 100 bytes, as are link targets; a longer one is a RangeError. */
export function writeTar(entries: readonly TarEntry[]): Uint8Array {
  const parts: Uint8Array[] = [];
  for (const entry of entries) {
    const contents = entry.kind === "file" ? Buffer.from(entry.contents) : Buffer.alloc(0);
    parts.push(tarHeader(entry, contents.length), contents, Buffer.alloc(-contents.length & (BLOCK_BYTES - 1)));
  }
  parts.push(Buffer.alloc(2 * BLOCK_BYTES));
  return Buffer.concat(parts);
}

function tarHeader(entry: TarEntry, size: number): Uint8Array {
  const header = Buffer.alloc(BLOCK_BYTES);
  const text = (offset: number, length: number, value: string): void => {
    if (Buffer.byteLength(value) > length)
      throw new RangeError(`longer than ${length} bytes in a tar archive: ${value}`);
    header.write(value, offset);
  };
  const octal = (offset: number, length: number, value: number): void =>
    text(offset, length, value.toString(8).padStart(length - 1, "0"));
  text(0, 100, entry.path);
  octal(100, 8, entry.kind === "link" ? 0o777 : entry.mode);
  octal(108, 8, 0);
  octal(116, 8, 0);
  octal(124, 12, size);
  octal(136, 12, MODIFIED_SECONDS);
  // The checksum is taken with its own field full of spaces.
  text(148, 8, "        ");
  text(156, 1, TYPE[entry.kind]);
  if (entry.kind === "link") text(157, 100, entry.target);
  text(257, 8, "ustar\u000000");
  text(265, 32, "root");
  text(297, 32, "root");
  octal(
    148,
    7,
    header.reduce((sum, byte) => sum + byte, 0),
  );
  header[154] = 0;
  return header;
}
