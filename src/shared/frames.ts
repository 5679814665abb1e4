/**
 * The helper's wire form: a 4-byte big-endian length, then that many bytes of UTF-8 JSON, at most 64 KiB.
 * One frame each way per connection.
 */

import { BangerError } from "./errors.ts";

/** Longest body of a frame, in bytes. */
export const FRAME_LIMIT_BYTES = 64 * 1024;
const HEADER_BYTES = 4;

/** The frame of a JSON value. @throws BangerError INVALID_REQUEST when it is longer than {@link FRAME_LIMIT_BYTES}. */
export function encodeFrame(value: unknown): Uint8Array {
  const body = new TextEncoder().encode(JSON.stringify(value));
  if (body.length > FRAME_LIMIT_BYTES) {
    throw new BangerError(
      "INVALID_REQUEST",
      `a message of ${body.length} bytes is over the ${FRAME_LIMIT_BYTES} limit`,
    );
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
    if (length === 0 || length > FRAME_LIMIT_BYTES) {
      throw new BangerError("INVALID_REQUEST", `a message of ${length} bytes; it must have 1 to ${FRAME_LIMIT_BYTES}`);
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
