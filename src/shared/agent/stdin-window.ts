/** A command's input on its way to the agent: never more ahead than the window, so that signals and sizes don't wait behind it. */

import { brokenProtocol, encodeFrame } from "./frames.ts";
import { AGENT_LIMITS } from "./protocol.ts";

export class StdinWindow {
  readonly #send: (frame: Uint8Array) => void;
  #room: number = AGENT_LIMITS.stdinWindowBytes;
  #isEnded: boolean;
  #isClosed = false;
  /** The writes that wait for room, one after the other; null while none does. */
  #queue: Promise<unknown> | null = null;
  #wake: (() => void) | null = null;

  constructor(send: (frame: Uint8Array) => void, isEnded: boolean) {
    this.#send = send;
    this.#isEnded = isEnded;
  }

  /** Resolves when the window took all of it; to false if nobody takes it any more. Writes keep their order. */
  async write(bytes: Uint8Array): Promise<boolean> {
    if (this.#isEnded || this.#isClosed) return false;
    if (this.#queue === null && bytes.length <= this.#room) {
      this.#sendNow(bytes);
      return true;
    }
    return await this.#enqueue(async () => await this.#sendAll(bytes));
  }

  /** Sends the end of the input, after all writes before it. */
  end(): void {
    if (this.#isEnded || this.#isClosed) return;
    this.#isEnded = true;
    if (this.#queue === null) this.#send(encodeFrame("stdinEnd", {}));
    else
      void this.#enqueue(async () => {
        if (!this.#isClosed) this.#send(encodeFrame("stdinEnd", {}));
        return await Promise.resolve(true);
      });
  }

  /** The agent took so many bytes. @throws BangerError GUEST_FAILED for more than it was sent */
  credit(bytes: number): void {
    if (bytes === 0 || this.#room + bytes > AGENT_LIMITS.stdinWindowBytes)
      throw brokenProtocol(`a credit of ${bytes} bytes`);
    this.#room += bytes;
    this.#wake?.();
  }

  /** Nobody takes input any more: ends all waiting. */
  close(): void {
    this.#isClosed = true;
    this.#wake?.();
  }

  async #enqueue(work: () => Promise<boolean>): Promise<boolean> {
    const turn = (this.#queue ?? Promise.resolve()).then(work);
    this.#queue = turn;
    const isTaken = await turn;
    if (this.#queue === turn) this.#queue = null;
    return isTaken;
  }

  async #sendAll(bytes: Uint8Array): Promise<boolean> {
    for (let at = 0; at < bytes.length;) {
      if (this.#isClosed) return false;
      if (this.#room === 0) {
        const { promise, resolve } = Promise.withResolvers<void>();
        this.#wake = resolve;
        await promise;
        this.#wake = null;
        continue;
      }
      const piece = bytes.subarray(at, at + this.#room);
      this.#sendNow(piece);
      at += piece.length;
    }
    return !this.#isClosed;
  }

  #sendNow(bytes: Uint8Array): void {
    this.#room -= bytes.length;
    for (let at = 0; at < bytes.length; at += AGENT_LIMITS.payloadBytes)
      this.#send(encodeFrame("stdin", { bytes: bytes.subarray(at, at + AGENT_LIMITS.payloadBytes) }));
  }
}
