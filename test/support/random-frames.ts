/** Frames of the agent's protocol by chance, from its tables, and streams that almost are such. The same for the same seed. */

import { encodeFrame } from "../../src/shared/agent/frames.ts";
import {
  AGENT_LIMITS,
  type FieldType,
  FRAMES,
  type FrameName,
  type FrameShape,
  HEADER_BYTES,
} from "../../src/shared/agent/protocol.ts";

/** Numbers from 0 up to below 1 (mulberry32). */
export type Chance = () => number;

export function chanceOf(seed: number): Chance {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** A whole number below `end`. */
export const below = (chance: Chance, end: number): number => Math.floor(chance() * end);
export const pick = <T>(chance: Chance, list: readonly T[]): T => list[below(chance, list.length)] as T;

const BITS: Readonly<Record<FieldType, number>> = { u8: 8, u16: 16, u32: 32, u64: 64, i32: 31 };

function valueOf(chance: Chance, type: FieldType): number | bigint {
  const most = 2n ** BigInt(BITS[type]) - 1n;
  const some = [0n, 1n, 2n, 77n, 128n, most, most / 2n, BigInt(below(chance, 2 ** 31)) & most];
  const value = pick(chance, some);
  if (type === "u64") return value;
  return type === "i32" && chance() < 0.2 ? 0 - Number(value) : Number(value);
}

const LONGEST: Partial<Record<FrameName, number>> = {
  directory: AGENT_LIMITS.directoryBytes,
  user: AGENT_LIMITS.userBytes,
  error: AGENT_LIMITS.errorBytes,
  ready: 36,
  listener: AGENT_LIMITS.processBytes,
};

export const NAMES = Object.keys(FRAMES) as FrameName[];
export const namesTo = (to: "guest" | "host"): readonly FrameName[] => NAMES.filter((name) => FRAMES[name].to === to);

export interface AnyFrame {
  readonly name: FrameName;
  readonly bytes?: Buffer;
  readonly [field: string]: unknown;
}

/** A valid frame of that name; long payloads are rare. */
export function frameOf(chance: Chance, name: FrameName): AnyFrame {
  const shape: FrameShape = FRAMES[name];
  const fields = Object.entries(shape.fields).map(([field, type]) => [field, valueOf(chance, type)] as const);
  const longest = Math.min(LONGEST[name] ?? AGENT_LIMITS.payloadBytes, chance() < 0.01 ? 65_536 : 64);
  const bytes = shape.bytes ? { bytes: Buffer.alloc(below(chance, longest + 1), below(chance, 256)) } : {};
  return { name, ...Object.fromEntries(fields), ...bytes };
}

export const encoded = ({ name, ...values }: AnyFrame): Buffer => encodeFrame(name, values as never);

/** Spoils bytes in one of the ways that a hostile or broken peer may. */
export function spoil(chance: Chance, bytes: Buffer): Buffer {
  const at = below(chance, bytes.length);
  switch (below(chance, 8)) {
    case 0: {
      const copy = Buffer.from(bytes);
      copy[at] = (copy[at] ?? 0) ^ (1 << below(chance, 8));
      return copy;
    }
    case 1:
      return bytes.subarray(0, at);
    case 2:
      return Buffer.concat([
        bytes.subarray(0, at),
        Buffer.alloc(below(chance, 40), below(chance, 256)),
        bytes.subarray(at),
      ]);
    case 3:
      return Buffer.concat([bytes.subarray(0, at), bytes.subarray(Math.min(bytes.length, at + below(chance, 9)))]);
    case 4:
      return Buffer.concat([bytes, bytes.subarray(at)]);
    case 5: {
      const copy = Buffer.concat([bytes, Buffer.alloc(HEADER_BYTES)]);
      copy.writeUInt32LE(pick(chance, [0, 1, 65_535, 65_536, 65_537, 0x7fff_ffff, 0xffff_ffff]), at);
      return copy;
    }
    case 6:
      return Buffer.from(bytes.map((byte) => (chance() < 0.02 ? below(chance, 256) : byte)));
    default:
      return Buffer.from(Array.from({ length: 1 + below(chance, 200) }, () => below(chance, 256)));
  }
}

/** The same bytes in pieces. */
export function* cut(chance: Chance, bytes: Buffer): Generator<Buffer> {
  const longest = pick(chance, [1, 3, 7, 100, 5000, 70_000, 1_000_000]);
  // So that a long stream doesn't come a byte at a time.
  const least = Math.max(1, Math.min(longest, Math.ceil(bytes.length / 2000)));
  for (let at = 0; at < bytes.length;) {
    const end = at + least + below(chance, longest);
    yield bytes.subarray(at, end);
    at = end;
  }
}
