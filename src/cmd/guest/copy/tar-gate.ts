/**
 * What passes of a guest's tar stream (ustar, pax and GNU headers: tar(5) of libarchive, "Basic Tar Format" of GNU tar).
 * A hostile guest writes the stream, so every header is read, judged and written again before a tar of the host sees it:
 *
 * - Only files, directories, symbolic links and hard links pass. Devices and fifos are left out and named.
 * - Modes lose set-uid, set-gid and sticky. Otherwise root's copy of a guest's file would be a root shell.
 * - No name is absolute, holds `..`, or leads through a link that the stream itself made.
 */

import { BangerError } from "../../../shared/errors.ts";

const BLOCK = 512;
/** Longer names and extended headers than any file system has are an attack on memory. */
const META_LIMIT = 1024 * 1024;
const PLAIN_MODE = 0o777;
const OWN_DIRECTORY = 0o700;

/** Offsets and lengths of a header's fields. */
const FIELD = {
  name: [0, 100],
  mode: [100, 8],
  size: [124, 12],
  checksum: [148, 8],
  type: [156, 1],
  link: [157, 100],
  magic: [257, 6],
  prefix: [345, 155],
} as const;
type Field = keyof typeof FIELD;

const SPECIAL: ReadonlyMap<string, string> = new Map([
  ["3", "character device"],
  ["4", "block device"],
  ["6", "fifo"],
]);
const FILES = new Set(["0", "\0", "7"]);
/** Of pax records, what the unpacked files need. The others could name owners, the system's attributes, volumes. */
const PAX_KEYS = /^(?:path|linkpath|size|mtime|atime|ctime|GNU\.sparse\.(?:major|minor|name|realsize|size))$/;
/**
 * Users' attributes, but for those that the kernel and containers' tools obey: of an overlay, one names a path that is read in place of
 * the file, and another an owner and a mode.
 */
const ATTRIBUTE = /^SCHILY\.xattr\.user\.(?!overlay\.|fuseoverlayfs\.|containers\.)/;

/** A member that isn't passed on. */
export interface SkippedMember {
  /** Bytes of the name, one per character. */
  readonly name: string;
  readonly kind: string;
}

function refuse(why: string): BangerError {
  return new BangerError("FAILED", `the guest sent an archive that can't be trusted: ${why}`);
}

const quoteName = (bytes: string): string => JSON.stringify(Buffer.from(bytes, "latin1").toString("utf8"));

/** The parts of a member's name. @throws BangerError FAILED for one that leads out of where it is unpacked */
function safeParts(name: string): string[] {
  if (name.startsWith("/")) throw refuse(`the name ${quoteName(name)} is absolute`);
  if (name.includes("\0")) throw refuse("a name contains a NUL byte");
  const parts = name.split("/").filter((part) => part !== "" && part !== ".");
  if (parts.includes("..")) throw refuse(`the name ${quoteName(name)} leads outside the copy`);
  return parts;
}

/** Names here are bytes, one per character ("latin1"): a guest's names need not be UTF-8. */
export class TarGate {
  /** The one name under which everything must stand; null lets any name pass. */
  readonly #root: string | null;
  readonly skipped: SkippedMember[] = [];
  /** Modes of directories whose owner could not have filled them. */
  readonly directoryModes = new Map<string, number>();
  readonly #links = new Set<string>();
  #pending: Uint8Array = new Uint8Array(0);
  #body: { left: number; readonly keep: boolean; readonly meta: Buffer[] | null; readonly type: string } | null = null;
  /** Headers that belong to the next member, ready to be passed on. */
  #ahead: Uint8Array[] = [];
  #pax = new Map<string, string>();
  #longName: string | null = null;
  #longLink: string | null = null;
  #isOver = false;
  #metaBytes = 0;

  constructor(root: string | null) {
    this.#root = root;
  }

  /** Takes the next bytes and returns what passes. @throws BangerError FAILED */
  push(chunk: Uint8Array): Uint8Array[] {
    const passed: Uint8Array[] = [];
    let bytes = this.#pending.length === 0 ? chunk : Buffer.concat([this.#pending, chunk]);
    while (!this.#isOver) {
      const body = this.#body;
      if (body !== null) {
        const taken = bytes.subarray(0, body.left);
        if (taken.length === 0 && body.left > 0) break;
        if (body.meta !== null) body.meta.push(Buffer.from(taken));
        else if (body.keep) passed.push(taken);
        body.left -= taken.length;
        bytes = bytes.subarray(taken.length);
        if (body.left > 0) break;
        this.#body = null;
        if (body.meta !== null) this.#endMeta(body.type, Buffer.concat(body.meta));
        continue;
      }
      if (bytes.length < BLOCK) break;
      passed.push(...this.#header(Buffer.from(bytes.subarray(0, BLOCK))));
      bytes = bytes.subarray(BLOCK);
    }
    this.#pending = this.#isOver ? new Uint8Array(0) : Uint8Array.from(bytes);
    return passed;
  }

  /** The end of the stream; returns the archive's own. @throws BangerError FAILED when the stream was cut off */
  end(): Uint8Array {
    if (!this.#isOver) throw refuse("it is cut short");
    return new Uint8Array(2 * BLOCK);
  }

  #header(block: Buffer): Uint8Array[] {
    if (isZero(block)) {
      this.#isOver = true;
      return [];
    }
    if (numberOf(block, "checksum") !== checksumOf(block)) throw refuse("a header is damaged");
    const type = field(block, "type") || "\0";
    const stored = numberOf(block, "size");
    if (type === "x" || type === "L" || type === "K") {
      this.#metaBytes += stored + BLOCK;
      if (this.#metaBytes > META_LIMIT) throw refuse("a name is too long");
      this.#body = { left: padded(stored), keep: false, meta: [block.subarray(0, BLOCK)], type };
      return [];
    }
    const size = this.#pax.has("size") ? wholeNumber(this.#pax.get("size") ?? "") : stored;
    const passed = this.#member(block, type);
    const hasBody = FILES.has(type);
    // Only files have contents; what another member claims to have would be read as the next header by some tars.
    if (!hasBody && !SPECIAL.has(type) && size !== 0) throw refuse("a member that can't have contents declares some");
    if (size > 0) this.#body = { left: padded(size), keep: passed.length > 0, meta: null, type };
    this.#ahead = [];
    this.#pax = new Map();
    [this.#longName, this.#longLink] = [null, null];
    this.#metaBytes = 0;
    return passed;
  }

  /** Judges a member; returns its headers, or nothing when it is left out. */
  #member(block: Buffer, type: string): Uint8Array[] {
    const short = shortName(block);
    const names = [short, this.#longName, this.#pax.get("path"), this.#pax.get("GNU.sparse.name")];
    // A tar that knows fewer extensions takes another of them.
    for (const name of names) if (name !== undefined && name !== null) safeParts(name);
    const name = names.findLast((one) => one !== undefined && one !== null) ?? "";
    const parts = safeParts(name);
    const path = parts.join("/");
    if (this.#root !== null && parts[0] !== this.#root) throw refuse(`${quoteName(name)} was not asked for`);
    this.#checkLinks(parts, name);
    const kind = SPECIAL.get(type);
    if (kind !== undefined) {
      this.skipped.push({ name: path, kind });
      return [];
    }
    if (!FILES.has(type) && type !== "1" && type !== "2" && type !== "5")
      throw refuse(`${quoteName(name)} is of the unknown type ${JSON.stringify(type)}`);
    if (type === "1") {
      // A name in the archive; the file itself is one of the host's only if a link leads there.
      for (const one of [field(block, "link"), this.#longLink, this.#pax.get("linkpath")])
        if (one !== null && one !== undefined && one !== "") safeParts(one);
      const link = this.#pax.get("linkpath") ?? this.#longLink ?? field(block, "link");
      const target = safeParts(link);
      if (this.#root !== null && target[0] !== this.#root) throw refuse(`${quoteName(name)} links to outside the copy`);
      this.#checkLinks(target, link);
    }
    if (type === "2") this.#links.add(path);
    // Tars take both for a directory, whatever the type says.
    if (type !== "5" && (path === "" || name.endsWith("/"))) throw refuse(`${quoteName(name)} is not a directory`);
    let mode = numberOf(block, "mode") & PLAIN_MODE;
    if (type === "5") {
      // It is filled and moved before its own mode holds; the copy's own directory stays closed to others until then.
      const during = path === "" ? OWN_DIRECTORY : mode | OWN_DIRECTORY;
      if (during !== mode) this.directoryModes.set(path, mode);
      mode = during;
    }
    const header = Buffer.from(block);
    header.write(`${mode.toString(8).padStart(7, "0")}\0`, FIELD.mode[0], "latin1");
    return [...this.#ahead, sign(header)];
  }

  /** @throws BangerError FAILED for a name at or below a link of the archive's own: it would be written through */
  #checkLinks(parts: readonly string[], name: string): void {
    for (let length = 1; length <= parts.length; length++)
      if (this.#links.has(parts.slice(0, length).join("/"))) throw refuse(`${quoteName(name)} leads through a link`);
  }

  /** Takes a header for the next member: a long name, or pax records. */
  #endMeta(type: string, whole: Buffer): void {
    const header = Buffer.from(whole.subarray(0, BLOCK));
    const text = whole.subarray(BLOCK, BLOCK + numberOf(header, "size"));
    if (type === "x") {
      if (this.#pax.size > 0) throw refuse("two extended headers belong to one member");
      this.#pax = paxRecords(text);
      const kept = [...this.#pax].map(([key, value]) => paxRecord(key, value)).join("");
      const body = Buffer.alloc(padded(kept.length));
      body.write(kept, "latin1");
      header.write(`${kept.length.toString(8).padStart(11, "0")}\0`, FIELD.size[0], "latin1");
      if (kept !== "") this.#ahead.push(sign(named(header)), body);
      return;
    }
    const end = text.indexOf(0);
    const name = text.subarray(0, end === -1 ? undefined : end).toString("latin1");
    if (type === "L") this.#longName = name;
    else this.#longLink = name;
    this.#ahead.push(sign(named(header)), whole.subarray(BLOCK));
  }
}

/** A header of a header: its own name is nobody's business, and no tar's way to a file. */
function named(header: Buffer): Buffer {
  header.fill(0, FIELD.name[0], FIELD.name[0] + FIELD.name[1]);
  header.write("banger-header", FIELD.name[0], "latin1");
  header.fill(0, FIELD.prefix[0], FIELD.prefix[0] + FIELD.prefix[1]);
  return header;
}

function field(block: Buffer, name: Field): string {
  const [start, length] = FIELD[name];
  const bytes = block.subarray(start, start + length);
  const end = bytes.indexOf(0);
  return bytes.subarray(0, end === -1 ? undefined : end).toString("latin1");
}

/** Only POSIX headers (`ustar` and a NUL) have a prefix; GNU's keep other things in its place. */
function shortName(block: Buffer): string {
  const [start] = FIELD.magic;
  const hasPrefix = block.subarray(start, start + 6).toString("latin1") === "ustar\0";
  const prefix = hasPrefix ? field(block, "prefix") : "";
  return prefix === "" ? field(block, "name") : `${prefix}/${field(block, "name")}`;
}

/** Octal text, or with the first bit set big-endian binary. @throws BangerError FAILED */
function numberOf(block: Buffer, name: Field): number {
  const [start, length] = FIELD[name];
  const bytes = block.subarray(start, start + length);
  const first = bytes[0] ?? 0;
  let value = 0;
  if ((first & 0x80) !== 0) {
    if (first !== 0x80) throw refuse("a number is negative or too large");
    for (const byte of bytes.subarray(1)) value = value * 256 + byte;
  } else {
    const text = field(block, name).trim();
    if (!/^[0-7]*$/.test(text)) throw refuse("a number is malformed");
    value = text === "" ? 0 : Number.parseInt(text, 8);
  }
  if (!Number.isSafeInteger(value)) throw refuse("a number is too large");
  return value;
}

function wholeNumber(text: string): number {
  const value = /^\d{1,16}$/.test(text) ? Number(text) : NaN;
  if (!Number.isSafeInteger(value)) throw refuse("a size is not a number");
  return value;
}

// By index: an iterator over the bytes of 20,000 headers takes as long as everything else about them.

function isZero(block: Buffer): boolean {
  for (let i = 0; i < BLOCK; i++) if (block[i] !== 0) return false;
  return true;
}

/** The sum of the bytes, those of the sum itself taken as blanks. */
function checksumOf(block: Buffer): number {
  const [start, length] = FIELD.checksum;
  let sum = 0;
  for (let i = 0; i < BLOCK; i++) sum += i >= start && i < start + length ? 0x20 : (block[i] ?? 0);
  return sum;
}

function sign(block: Buffer): Buffer {
  block.write(`${checksumOf(block).toString(8).padStart(6, "0")}\0 `, FIELD.checksum[0], "latin1");
  return block;
}

function padded(size: number): number {
  return Math.ceil(size / BLOCK) * BLOCK;
}

/** `LENGTH KEY=VALUE\n`, the length counting itself (POSIX pax, "Extended Header"). @throws BangerError FAILED */
function paxRecords(bytes: Buffer): Map<string, string> {
  const records = new Map<string, string>();
  const text = bytes.toString("latin1");
  for (let at = 0; at < text.length;) {
    const blank = text.indexOf(" ", at);
    const length = wholeNumber(text.slice(at, blank === -1 ? at : blank));
    const record = text.slice(blank + 1, at + length);
    const equals = record.indexOf("=");
    if (length === 0 || at + length > text.length || !record.endsWith("\n") || equals < 1)
      throw refuse("an extended header is damaged");
    const key = record.slice(0, equals);
    if (records.has(key)) throw refuse("an extended header repeats a key");
    if (PAX_KEYS.test(key) || ATTRIBUTE.test(key)) records.set(key, record.slice(equals + 1, -1));
    at += length;
  }
  return records;
}

function paxRecord(key: string, value: string): string {
  const rest = ` ${key}=${value}\n`.length;
  let length = rest + 1;
  while (String(length).length + rest !== length) length = String(length).length + rest;
  return `${length} ${key}=${value}\n`;
}
