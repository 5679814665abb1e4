/**
 * Bytes that come in pieces, as one. A piece is copied: kept as it came, one byte would keep the whole chunk that it was read with, and a
 * hostile guest could make each byte of its output cost a quarter of a megabyte.
 */

const LEAST_BYTES = 4096;

export class GrowingBytes {
  #bytes = Buffer.alloc(0);
  #length = 0;

  get length(): number {
    return this.#length;
  }

  push(piece: Uint8Array): void {
    const end = this.#length + piece.length;
    if (end > this.#bytes.length) {
      const larger = Buffer.allocUnsafe(Math.max(LEAST_BYTES, end, 2 * this.#bytes.length));
      this.#bytes.copy(larger, 0, 0, this.#length);
      this.#bytes = larger;
    }
    this.#bytes.set(piece, this.#length);
    this.#length = end;
  }

  /** All of them; valid until the next `push`. */
  get bytes(): Buffer {
    return this.#bytes.subarray(0, this.#length);
  }
}
