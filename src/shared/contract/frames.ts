/**
 * The helper's wire form: a 4-byte big-endian length, then that many bytes of UTF-8 JSON. One frame each way per
 * connection; a request holds at most 64 KiB, an answer (an inventory of many VMs) at most 4 MiB.
 */

import { BangerError } from "../errors.ts";

/** Longest body of a request, in bytes. */
export const FRAME_LIMIT_BYTES = 64 * 1024;
/** Longest body of an answer, in bytes. */
export const ANSWER_LIMIT_BYTES = 4 * 1024 * 1024;
const HEADER_BYTES = 4;

/** The frame of a JSON value. @throws BangerError INVALID_REQUEST when its body is longer than the limit. */
export function encodeFrame(value: unknown, limitBytes = FRAME_LIMIT_BYTES): Uint8Array {
  const body = new TextEncoder().encode(JSON.stringify(value));
  if (body.length > limitBytes) {
    throw new BangerError("INVALID_REQUEST", `a message of ${body.length} bytes is over the limit of ${limitBytes}`);
  }
  const frame = new Uint8Array(HEADER_BYTES + body.length);
  new DataView(frame.buffer).setUint32(0, body.length);
  frame.set(body, HEADER_BYTES);
  return frame;
}

/**
 * Takes one frame from bytes as they come. It never holds more than one frame: an announced length over the limit
 * is refused before a byte of the body is kept (the attack: make root allocate what a stranger asks for).
 */
export class FrameDecoder {
  #buffer = new Uint8Array(0);
  #done = false;
  readonly #limitBytes: number;

  constructor(limitBytes = FRAME_LIMIT_BYTES) {
    this.#limitBytes = limitBytes;
  }

  /**
   * The value once the frame is whole, else `undefined`.
   * @throws BangerError INVALID_REQUEST: too long, empty, not UTF-8, not JSON, or bytes after the frame's end.
   */
  push(chunk: Uint8Array): { readonly value: unknown } | undefined {
    if (this.#done) throw new BangerError("INVALID_REQUEST", "bytes after the end of the message");
    const joined = new Uint8Array(this.#buffer.length + chunk.length);
    joined.set(this.#buffer);
    joined.set(chunk, this.#buffer.length);
    if (joined.length < HEADER_BYTES) {
      this.#buffer = joined;
      return undefined;
    }
    const length = new DataView(joined.buffer).getUint32(0);
    if (length === 0 || length > this.#limitBytes) {
      throw new BangerError("INVALID_REQUEST", `a message of ${length} bytes; it must have 1 to ${this.#limitBytes}`);
    }
    if (joined.length > HEADER_BYTES + length) {
      throw new BangerError("INVALID_REQUEST", "bytes after the end of the message");
    }
    this.#buffer = joined;
    if (joined.length < HEADER_BYTES + length) return undefined;
    this.#done = true;
    return { value: parse(joined.subarray(HEADER_BYTES)) };
  }
}

function parse(body: Uint8Array): unknown {
  try {
    return JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(body));
  } catch (cause) {
    throw new BangerError("INVALID_REQUEST", "the message is not JSON", { cause });
  }
}
