/**
 * The codec of the agent's frames, made from the tables of `protocol.ts`. The decoder reads what a hostile guest sends: it checks a
 * frame's type, direction and length before it keeps a byte of the payload, and never holds more than one frame of its own.
 */

import { BangerError } from "../errors.ts";
import { AGENT_LIMITS, type FieldType, FRAMES, type FrameName, type FrameShape, HEADER_BYTES } from "./protocol.ts";

type Direction = "guest" | "host";
type ValueOf<T extends FieldType> = T extends "u64" ? bigint : number;
/** A frame's fields by name, and `bytes` if it has any. */
export type FrameValues<N extends FrameName> = {
  readonly [K in keyof (typeof FRAMES)[N]["fields"]]: (typeof FRAMES)[N]["fields"][K] extends FieldType
    ? ValueOf<(typeof FRAMES)[N]["fields"][K]>
    : never;
} & ((typeof FRAMES)[N]["bytes"] extends true ? { readonly bytes: Uint8Array } : unknown);
type NameTo<D extends Direction> = { [N in FrameName]: (typeof FRAMES)[N]["to"] extends D ? N : never }[FrameName];
/** Any frame that goes that way; `name` tells which. */
export type FrameTo<D extends Direction> = NamedFrame<NameTo<D>>;
type NamedFrame<N extends FrameName> = N extends FrameName ? { readonly name: N } & FrameValues<N> : never;

const FIELD_BYTES: Readonly<Record<FieldType, number>> = { u8: 1, u16: 2, u32: 4, u64: 8, i32: 4 };
/** The kernel writes a boot id as a UUID. */
const BOOT_ID_BYTES = 36;
/** The most bytes after the fields, for frames where that is less than a payload. */
const BYTES_LIMITS: Partial<Readonly<Record<FrameName, number>>> = {
  directory: AGENT_LIMITS.directoryBytes,
  user: AGENT_LIMITS.userBytes,
  error: AGENT_LIMITS.errorBytes,
  ready: BOOT_ID_BYTES,
  listener: AGENT_LIMITS.processBytes,
};

interface Layout {
  readonly name: FrameName;
  readonly to: Direction;
  readonly type: number;
  readonly fields: readonly (readonly [string, FieldType])[];
  readonly hasBytes: boolean;
  readonly leastBytes: number;
  readonly mostBytes: number;
}

function layoutOf(name: FrameName, { type, to, fields, bytes }: FrameShape): Layout {
  const list = Object.entries(fields);
  const leastBytes = list.reduce((sum, [, field]) => sum + FIELD_BYTES[field], 0);
  const most = BYTES_LIMITS[name];
  const mostBytes = most === undefined ? AGENT_LIMITS.payloadBytes : leastBytes + most;
  return { name, to, type, fields: list, hasBytes: bytes, leastBytes, mostBytes: bytes ? mostBytes : leastBytes };
}

const LAYOUTS = Object.fromEntries(
  Object.entries(FRAMES).map(([name, shape]) => [name, layoutOf(name as FrameName, shape)]),
) as Readonly<Record<FrameName, Layout>>;
const BY_TYPE: readonly (Layout | undefined)[] = Object.values(LAYOUTS).reduce<Layout[]>((table, layout) => {
  table[layout.type] = layout;
  return table;
}, []);

/** The frame's bytes, header included: a copy, so that header and payload go out in one write. @throws Error for a value out of range */
export function encodeFrame<N extends FrameName>(name: N, values: FrameValues<N>): Buffer {
  const layout = LAYOUTS[name];
  const bytes = layout.hasBytes ? (values as { readonly bytes: Uint8Array }).bytes : null;
  const length = layout.leastBytes + (bytes?.length ?? 0);
  if (length > layout.mostBytes) throw new RangeError(`${name}: ${length} bytes; at most ${layout.mostBytes} fit`);
  const frame = Buffer.allocUnsafe(HEADER_BYTES + length);
  frame.writeUInt32LE(length, 0);
  frame.writeUInt8(layout.type, 4);
  let at = HEADER_BYTES;
  for (const [field, type] of layout.fields) {
    const value = (values as Readonly<Record<string, number | bigint>>)[field] as number & bigint;
    if (type === "u8") at = frame.writeUInt8(value, at);
    else if (type === "u16") at = frame.writeUInt16LE(value, at);
    else if (type === "u32") at = frame.writeUInt32LE(value, at);
    else if (type === "i32") at = frame.writeInt32LE(value, at);
    else at = frame.writeBigUInt64LE(value, at);
  }
  if (bytes !== null) frame.set(bytes, at);
  return frame;
}

/** The channel is of no use any more. */
export class BrokenChannel extends BangerError {}

/** The guest sent what the protocol doesn't allow. */
export const brokenProtocol = (what: string): BrokenChannel =>
  new BrokenChannel("GUEST_FAILED", `the guest's agent broke the protocol: ${what}`);

/** Takes frames that go to `to` from a stream that is cut anywhere. After an error it must not be used again. */
export class FrameDecoder<D extends Direction> {
  readonly #to: D;
  #chunk: Buffer = Buffer.alloc(0);
  #at = 0;
  readonly #header = Buffer.alloc(HEADER_BYTES);
  #headerBytes = 0;
  /** Of the frame whose header is complete. */
  #layout: Layout | null = null;
  #length = 0;
  /** A payload that came in more than one piece. */
  #payload: Buffer | null = null;
  #payloadBytes = 0;

  constructor(to: D) {
    this.#to = to;
  }

  /** Adds bytes, which must not change afterwards: `next` hands out views of them. */
  feed(bytes: Uint8Array): void {
    const chunk = Buffer.isBuffer(bytes) ? bytes : Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    this.#chunk = this.#at === this.#chunk.length ? chunk : Buffer.concat([this.#chunk.subarray(this.#at), chunk]);
    this.#at = 0;
  }

  /** The next whole frame; null until more bytes come. @throws BangerError GUEST_FAILED for anything else */
  next(): FrameTo<D> | null {
    const layout = this.#layout ?? this.#readHeader();
    if (layout === null) return null;
    const payload = this.#readPayload();
    if (payload === null) return null;
    this.#layout = null;
    return valuesOf(layout, payload) as FrameTo<D>;
  }

  #readHeader(): Layout | null {
    const here = this.#chunk.length - this.#at;
    if (this.#headerBytes === 0 && here >= HEADER_BYTES) {
      const length = this.#chunk.readUInt32LE(this.#at);
      const type = this.#chunk.readUInt8(this.#at + 4);
      this.#at += HEADER_BYTES;
      return this.#begin(type, length);
    }
    const taken = Math.min(here, HEADER_BYTES - this.#headerBytes);
    this.#chunk.copy(this.#header, this.#headerBytes, this.#at, this.#at + taken);
    this.#at += taken;
    this.#headerBytes += taken;
    if (this.#headerBytes < HEADER_BYTES) return null;
    this.#headerBytes = 0;
    return this.#begin(this.#header.readUInt8(4), this.#header.readUInt32LE(0));
  }

  #begin(type: number, length: number): Layout {
    const layout = BY_TYPE[type];
    if (layout === undefined || layout.to !== this.#to) throw brokenProtocol(`a frame of type ${type}`);
    if (length < layout.leastBytes || length > layout.mostBytes)
      throw brokenProtocol(`a frame "${layout.name}" of ${length} bytes`);
    this.#layout = layout;
    this.#length = length;
    return layout;
  }

  #readPayload(): Buffer | null {
    const here = this.#chunk.length - this.#at;
    if (this.#payload === null) {
      if (here >= this.#length) {
        this.#at += this.#length;
        return this.#chunk.subarray(this.#at - this.#length, this.#at);
      }
      if (here === 0) return null;
      this.#payload = Buffer.allocUnsafe(this.#length);
      this.#payloadBytes = 0;
    }
    const taken = Math.min(here, this.#length - this.#payloadBytes);
    this.#chunk.copy(this.#payload, this.#payloadBytes, this.#at, this.#at + taken);
    this.#at += taken;
    this.#payloadBytes += taken;
    if (this.#payloadBytes < this.#length) return null;
    const payload = this.#payload;
    this.#payload = null;
    return payload;
  }
}

function valuesOf({ name, fields, hasBytes }: Layout, payload: Buffer): { readonly name: FrameName } {
  const values: Record<string, unknown> & { name: FrameName } = { name };
  let at = 0;
  for (const [field, type] of fields) {
    if (type === "u8") values[field] = payload.readUInt8(at);
    else if (type === "u16") values[field] = payload.readUInt16LE(at);
    else if (type === "u32") values[field] = payload.readUInt32LE(at);
    else if (type === "i32") values[field] = payload.readInt32LE(at);
    else values[field] = payload.readBigUInt64LE(at);
    at += FIELD_BYTES[type];
  }
  if (hasBytes) values["bytes"] = payload.subarray(at);
  return values;
}
