/** A codec of the agent's frames for its tests, straight from the protocol's tables. */

import {
  type FieldType,
  FRAMES,
  type FrameName,
  type FrameShape,
  HEADER_BYTES,
} from "../../src/shared/agent/protocol.ts";

export type FieldValues = Readonly<Record<string, number | bigint>>;

export interface Frame {
  readonly name: FrameName;
  readonly fields: FieldValues;
  readonly bytes: Buffer;
}

const SHAPES: Readonly<Record<FrameName, FrameShape>> = FRAMES;
const NAMES = new Map(Object.entries(FRAMES).map(([name, { type }]) => [type as number, name as FrameName]));

const FIELD_BYTES: Readonly<Record<FieldType, number>> = { u8: 1, u16: 2, u32: 4, u64: 8, i32: 4 };

function writeField(into: Buffer, at: number, type: FieldType, value: number | bigint): void {
  if (type === "u64") into.writeBigUInt64LE(BigInt(value), at);
  else if (type === "i32") into.writeInt32LE(Number(value), at);
  else into.writeUIntLE(Number(value), at, FIELD_BYTES[type]);
}

function readField(from: Buffer, at: number, type: FieldType): number | bigint {
  if (type === "u64") return from.readBigUInt64LE(at);
  return type === "i32" ? from.readInt32LE(at) : from.readUIntLE(at, FIELD_BYTES[type]);
}

/** A header that claims a length and a type, whatever follows it. */
export function encodeHeader(length: number, type: number): Buffer {
  const header = Buffer.alloc(HEADER_BYTES);
  header.writeUInt32LE(length, 0);
  header[4] = type;
  return header;
}

/** Fields that aren't given are 0. */
export function encodeFrame(name: FrameName, fields: FieldValues = {}, bytes: Uint8Array = new Uint8Array()): Buffer {
  const shape = SHAPES[name];
  const parts = Object.entries(shape.fields).map(([field, type]) => {
    const part = Buffer.alloc(FIELD_BYTES[type]);
    writeField(part, 0, type, fields[field] ?? 0);
    return part;
  });
  const payload = Buffer.concat([...parts, bytes]);
  return Buffer.concat([encodeHeader(payload.length, shape.type), payload]);
}

/** The first frame of these bytes and its length, or null while it isn't whole. @throws Error for one that nobody sends */
export function decodeFrame(held: Buffer): { readonly frame: Frame; readonly length: number } | null {
  if (held.length < HEADER_BYTES) return null;
  const length = held.readUInt32LE(0);
  const name = NAMES.get(held[4] ?? 0);
  if (name === undefined || SHAPES[name].to !== "host") throw new Error(`the agent sent a frame of type ${held[4]}`);
  if (held.length < HEADER_BYTES + length) return null;
  const payload = held.subarray(HEADER_BYTES, HEADER_BYTES + length);
  let at = 0;
  const fields: Record<string, number | bigint> = {};
  for (const [field, type] of Object.entries(SHAPES[name].fields)) {
    fields[field] = readField(payload, at, type);
    at += FIELD_BYTES[type];
  }
  if (!SHAPES[name].bytes && at !== length) throw new Error(`${name} has ${length} bytes`);
  return { frame: { name, fields, bytes: Buffer.from(payload.subarray(at)) }, length: HEADER_BYTES + length };
}
