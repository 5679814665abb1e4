/**
 * Writes a POSIX archive of root's files: ustar, with an extended header where a path is longer than ustar holds. Source: pax(1),
 * "ustar Interchange Format" and "pax Interchange Format".
 */

export type TarEntry =
  | { readonly kind: "directory"; readonly path: string; readonly mode: number }
  | { readonly kind: "file"; readonly path: string; readonly mode: number; readonly contents: string | Uint8Array }
  | { readonly kind: "link"; readonly path: string; readonly target: string };

const BLOCK_BYTES = 512;
const END_BYTES = 2 * BLOCK_BYTES;
const NAME_BYTES = 100;
const TYPE = { file: "0", link: "2", directory: "5", extended: "x" } as const;
/** The same time everywhere, so that the same input is the same archive. */
const MODIFIED_SECONDS = 0;

/** Paths are relative and without zero bytes. A link's target of more than 100 bytes is a RangeError. */
export function writeTar(entries: readonly TarEntry[]): Uint8Array {
  return Buffer.concat([...entries.flatMap(tarParts), Buffer.alloc(END_BYTES)]);
}

/** One archive of the entries of all. */
export function joinTars(archives: readonly Uint8Array[]): Uint8Array {
  return Buffer.concat([...archives.map((archive) => archive.subarray(0, -END_BYTES)), Buffer.alloc(END_BYTES)]);
}

/** The directories above the paths, each once, parents first. */
export function parentsOf(paths: readonly string[]): readonly string[] {
  const directories = new Set<string>();
  for (const path of paths) {
    for (let at = path.lastIndexOf("/"); at > 0; at = path.lastIndexOf("/", at - 1)) directories.add(path.slice(0, at));
  }
  return [...directories].toSorted();
}

function tarParts(entry: TarEntry): readonly Uint8Array[] {
  if (entry.path.includes("\0")) throw new RangeError(`a zero byte in a path: ${JSON.stringify(entry.path)}`);
  const contents = entry.kind === "file" ? Buffer.from(entry.contents) : Buffer.alloc(0);
  const mode = entry.kind === "link" ? 0o777 : entry.mode;
  const target = entry.kind === "link" ? entry.target : "";
  const plain = (path: string): readonly Uint8Array[] => [
    header({ path, mode, type: TYPE[entry.kind], size: contents.length, target }),
    ...blocks(contents),
  ];
  if (Buffer.byteLength(entry.path) <= NAME_BYTES) return plain(entry.path);
  const record = Buffer.from(extendedRecord("path", entry.path));
  return [
    header({ path: "long-path", mode: 0o600, type: TYPE.extended, size: record.length, target: "" }),
    ...blocks(record),
    // What a reader that knows no extended header would take for the path.
    ...plain("long-path"),
  ];
}

/** `LENGTH KEY=VALUE\n`, where LENGTH counts itself. */
function extendedRecord(key: string, value: string): string {
  const rest = ` ${key}=${value}\n`;
  const restBytes = Buffer.byteLength(rest);
  let length = restBytes;
  while (String(length).length + restBytes !== length) length = String(length).length + restBytes;
  return `${length}${rest}`;
}

const blocks = (contents: Uint8Array): readonly Uint8Array[] => [
  contents,
  Buffer.alloc(-contents.length & (BLOCK_BYTES - 1)),
];

function header(fields: {
  readonly path: string;
  readonly mode: number;
  readonly type: string;
  readonly size: number;
  readonly target: string;
}): Uint8Array {
  const block = Buffer.alloc(BLOCK_BYTES);
  const text = (offset: number, length: number, value: string): void => {
    if (Buffer.byteLength(value) > length)
      throw new RangeError(`longer than ${length} bytes in a tar archive: ${value}`);
    block.write(value, offset);
  };
  const octal = (offset: number, length: number, value: number): void =>
    text(offset, length, value.toString(8).padStart(length - 1, "0"));
  text(0, NAME_BYTES, fields.path);
  octal(100, 8, fields.mode);
  octal(108, 8, 0);
  octal(116, 8, 0);
  octal(124, 12, fields.size);
  octal(136, 12, MODIFIED_SECONDS);
  // The checksum is taken with its own field full of spaces.
  text(148, 8, "        ");
  text(156, 1, fields.type);
  text(157, NAME_BYTES, fields.target);
  text(257, 8, "ustar\u000000");
  text(265, 32, "root");
  text(297, 32, "root");
  octal(
    148,
    7,
    block.reduce((sum, byte) => sum + byte, 0),
  );
  block[154] = 0;
  return block;
}
