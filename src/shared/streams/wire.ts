/**
 * The bytes of a channel. Over Bun's own sockets, because `node:net` costs each command several milliseconds of start and loses what
 * it did not read yet when the peer resets the connection.
 */

import type { Duplex } from "node:stream";

export interface WireReader {
  /** Bytes that stay as they are. */
  onData(bytes: Buffer): void;
  /** Nothing more comes. Called once. */
  onEnd(why: string): void;
}

/** A stream of bytes both ways. Bytes and the end wait for a reader. */
export abstract class Wire {
  #reader: WireReader | null = null;
  #kept: Buffer[] = [];
  #end: string | null = null;
  #isPaused = true;
  /** Whether the stream itself may hand over bytes: stopped only when some come while paused, as most pauses are over before. */
  #isFlowing = false;
  #isClosed = false;
  readonly #gone = Promise.withResolvers<void>();

  /** Bytes that the kernel did not take yet. */
  abstract get unsentBytes(): number;
  /** Sends bytes, which must not change afterwards. Never waits; drops them when the stream is closed. */
  abstract write(bytes: Uint8Array): void;
  protected abstract setFlow(isFlowing: boolean): void;
  protected abstract destroy(): void;

  /** Resolves when the stream's descriptor is closed. */
  get gone(): Promise<void> {
    return this.#gone.promise;
  }

  /** Hands everything to this reader from now on. The stream is paused until `resume`. */
  read(reader: WireReader | null): void {
    this.#reader = reader;
  }

  /** Puts bytes back in front of what comes. */
  unread(bytes: Buffer): void {
    if (bytes.length > 0) this.#kept.unshift(bytes);
  }

  pause(): void {
    this.#isPaused = true;
  }

  /** Lets bytes come, first those that were kept. */
  resume(): void {
    if (this.#isClosed) return;
    this.#isPaused = false;
    for (let bytes = this.#kept.shift(); bytes !== undefined; bytes = this.#kept.shift()) {
      this.#reader?.onData(bytes);
      if (this.#isPaused || this.#isClosed) return;
    }
    if (this.#end !== null) this.#reader?.onEnd(this.#end);
    else if (!this.#isFlowing) this.#setFlow(true);
  }

  /** Closes at once. The reader hears nothing more. */
  close(): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.#reader = null;
    this.#kept = [];
    this.destroy();
  }

  protected received(bytes: Buffer): void {
    if (this.#isClosed) return;
    if (this.#reader !== null && !this.#isPaused) return this.#reader.onData(bytes);
    this.#kept.push(bytes);
    if (this.#isFlowing) this.#setFlow(false);
  }

  protected ended(why: string): void {
    if (this.#isClosed || this.#end !== null) return;
    this.#end = why;
    if (!this.#isPaused) this.#reader?.onEnd(why);
  }

  #setFlow(isFlowing: boolean): void {
    this.#isFlowing = isFlowing;
    this.setFlow(isFlowing);
  }

  protected closed(): void {
    this.ended("the connection was closed");
    this.#gone.resolve();
  }
}

const CLOSED = "it closed the connection";

class SocketWire extends Wire {
  readonly #unsent: Uint8Array[] = [];
  #unsentBytes = 0;
  #socket: Bun.Socket<undefined> | null = null;

  static async connect(path: string): Promise<SocketWire> {
    const wire = new SocketWire();
    await Bun.connect<undefined>({
      unix: path,
      socket: {
        binaryType: "buffer",
        open: (socket) => {
          socket.pause();
          wire.#socket = socket;
        },
        data: (_, bytes) => wire.received(bytes),
        drain: () => wire.#flush(),
        end: (socket) => {
          wire.ended(CLOSED);
          socket.end();
        },
        error: (_, error) => wire.ended(error.message),
        close: (_, error) => {
          wire.#socket = null;
          wire.#unsent.length = wire.#unsentBytes = 0;
          if (error !== undefined && error !== null) wire.ended((error as unknown as Error).message);
          wire.closed();
        },
      },
    });
    return wire;
  }

  override get unsentBytes(): number {
    return this.#unsentBytes;
  }

  override write(bytes: Uint8Array): void {
    if (this.#socket === null) return;
    const sent = this.#unsent.length > 0 ? 0 : Math.max(0, this.#socket.write(bytes));
    if (sent === bytes.length) return;
    this.#unsent.push(bytes.subarray(sent));
    this.#unsentBytes += bytes.length - sent;
  }

  #flush(): void {
    for (let first = this.#unsent[0]; first !== undefined; first = this.#unsent[0]) {
      const sent = Math.max(0, this.#socket?.write(first) ?? 0);
      this.#unsentBytes -= sent;
      if (sent < first.length) {
        this.#unsent[0] = first.subarray(sent);
        return;
      }
      this.#unsent.shift();
    }
  }

  protected override setFlow(isFlowing: boolean): void {
    if (isFlowing) this.#socket?.resume();
    else this.#socket?.pause();
  }

  protected override destroy(): void {
    this.#socket?.terminate();
  }
}

class DuplexWire extends Wire {
  readonly #stream: Duplex;

  constructor(stream: Duplex) {
    super();
    this.#stream = stream;
    const onEnd = (): void => this.ended(CLOSED);
    stream
      .on("data", (bytes: Buffer) => this.received(bytes))
      .on("end", onEnd)
      .on("error", (error) => this.ended(error.message))
      .on("close", () => this.closed())
      .pause();
    if (stream.destroyed || stream.readableEnded) onEnd();
    if (stream.closed) this.closed();
  }

  override get unsentBytes(): number {
    return this.#stream.writableLength;
  }

  override write(bytes: Uint8Array): void {
    if (this.#stream.writable) this.#stream.write(bytes);
  }

  protected override setFlow(isFlowing: boolean): void {
    if (isFlowing) this.#stream.resume();
    else this.#stream.pause();
  }

  protected override destroy(): void {
    this.#stream.destroy();
  }
}

/** @throws the system call's error: ENOENT, ECONNREFUSED (also when the queue of connections is full) */
export async function connectUnix(path: string): Promise<Wire> {
  try {
    return await SocketWire.connect(path);
  } catch (thrown) {
    // The runtime's own message names neither.
    const { code = "it failed" } = thrown as NodeJS.ErrnoException;
    throw Object.assign(new Error(`connecting to ${path}: ${code}`, { cause: thrown }), { code });
  }
}

/** A stream that another module made: ssh's, for a VM on another host. */
export const wireOver = (stream: Duplex): Wire => new DuplexWire(stream);
