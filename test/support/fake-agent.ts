/** An agent's end of a channel in this process: the handshake, and frames both ways. Scripts of tests say what it answers, true or not. */

import { rmSync } from "node:fs";
import { createServer, type Server, type Socket } from "node:net";
import { once } from "node:events";
import { encodeFrame, FrameDecoder, type FrameTo, type FrameValues } from "../../src/shared/agent/frames.ts";
import {
  AGENT_PROTOCOL,
  ANSWER_MAGIC,
  HELLO_MAGIC,
  type FrameName,
  MAGIC_BYTES,
  NONCE_BYTES,
} from "../../src/shared/agent/protocol.ts";

/** One connection to a {@link FakeAgent}. */
export class AgentPeer {
  readonly socket: Socket;
  readonly #decoder = new FrameDecoder("guest");
  #bytes = Buffer.alloc(0);
  #isFramed = false;
  #isEnded = false;
  #wake: () => void = () => {};

  constructor(socket: Socket) {
    this.socket = socket;
    socket.on("error", () => {});
    socket.on("data", (chunk: Buffer) => {
      if (this.#isFramed) this.#decoder.feed(chunk);
      else this.#bytes = Buffer.concat([this.#bytes, chunk]);
      this.#wake();
    });
    socket.on("close", () => {
      this.#isEnded = true;
      this.#wake();
    });
  }

  async #more(): Promise<boolean> {
    if (this.#isEnded) return false;
    await new Promise<void>((resolve) => {
      this.#wake = resolve;
    });
    return true;
  }

  /** Waits for a hello; throws away what comes before. The nonce; null when the host went away. */
  async readHello(): Promise<Buffer | null> {
    const magic = Buffer.from(HELLO_MAGIC, "latin1");
    for (;;) {
      const at = this.#bytes.indexOf(magic);
      const end = at + MAGIC_BYTES + NONCE_BYTES + 4;
      if (at !== -1 && this.#bytes.length >= end) {
        const nonce = this.#bytes.subarray(at + MAGIC_BYTES, at + MAGIC_BYTES + NONCE_BYTES);
        this.#bytes = this.#bytes.subarray(end);
        return nonce;
      }
      if (!(await this.#more())) return null;
    }
  }

  /** The port in Firecracker's `CONNECT`; null when the host went away. */
  async readConnect(): Promise<number | null> {
    for (;;) {
      const line = /^CONNECT (\d+)\n/.exec(this.#bytes.toString("latin1"));
      if (line !== null) {
        this.#bytes = this.#bytes.subarray(line[0].length);
        return Number(line[1]);
      }
      if (!(await this.#more())) return null;
    }
  }

  /** Waits until the host closed the connection. */
  async gone(): Promise<void> {
    while (await this.#more());
  }

  write(bytes: Uint8Array | string): void {
    if (this.socket.writable) this.socket.write(bytes);
  }

  /** Sends these bytes again and again until the host goes away. */
  flood(bytes: Uint8Array): void {
    const pour = (): void => {
      while (this.socket.writable && this.socket.write(bytes));
    };
    this.socket.on("drain", pour);
    pour();
  }

  /** The bytes of the answer to a hello. */
  static answer(nonce: Uint8Array, version: number = AGENT_PROTOCOL): Buffer {
    const number = Buffer.alloc(4);
    number.writeUInt32LE(version);
    return Buffer.concat([Buffer.from(ANSWER_MAGIC, "latin1"), nonce, number]);
  }

  /** Shakes hands. */
  async accept(version?: number): Promise<void> {
    const nonce = await this.readHello();
    if (nonce === null) return;
    this.startFrames();
    this.write(AgentPeer.answer(nonce, version));
  }

  /** Takes what comes from now on as frames. */
  startFrames(): void {
    this.#isFramed = true;
    this.#decoder.feed(this.#bytes);
  }

  /** The host's next frame; null when it went away. */
  async read(): Promise<FrameTo<"guest"> | null> {
    for (;;) {
      const frame = this.#decoder.next();
      if (frame !== null) return frame;
      if (!(await this.#more())) return null;
    }
  }

  /** Reads up to the frame that ends a request. */
  async readRequest(): Promise<readonly FrameTo<"guest">[]> {
    const frames: FrameTo<"guest">[] = [];
    const parts: readonly string[] = ["argument", "variable", "directory", "user"];
    for (;;) {
      const frame = await this.read();
      if (frame === null) return frames;
      frames.push(frame);
      if (!parts.includes(frame.name)) return frames;
    }
  }

  send<N extends FrameName>(name: N, values: FrameValues<N>): void {
    this.write(encodeFrame(name, values));
  }

  /** `exited`, of a command that ended well unless said otherwise. */
  exit(status = 0, signal = 0): void {
    const times = { userMicroseconds: 1n, systemMicroseconds: 2n, wallMicroseconds: 3n, peakKib: 4n };
    this.send("exited", { status, signal, flags: 0, ...times });
  }
}

/** Listens on a unix socket and runs a script for each connection. */
export class FakeAgent implements AsyncDisposable {
  readonly path: string;
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();
  /** Connections so far. */
  connections = 0;

  private constructor(path: string, script: (peer: AgentPeer) => unknown) {
    this.path = path;
    this.#server = createServer((socket) => {
      this.connections++;
      this.#sockets.add(socket);
      socket.on("close", () => this.#sockets.delete(socket));
      void script(new AgentPeer(socket));
    });
  }

  /** `path` may be taken from an earlier one. */
  static async listen(path: string, script: (peer: AgentPeer) => unknown): Promise<FakeAgent> {
    rmSync(path, { force: true });
    const agent = new FakeAgent(path, script);
    agent.#server.listen(path);
    await once(agent.#server, "listening");
    return agent;
  }

  /** Resolves when so many connections have come. */
  async connected(count: number): Promise<void> {
    while (this.connections < count) await once(this.#server, "connection");
  }

  /** Resolves when no connection is open. */
  async idle(): Promise<void> {
    while (this.#sockets.size > 0)
      await new Promise<void>((resolve) => [...this.#sockets][0]?.once("close", () => resolve()));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const socket of this.#sockets) socket.destroy();
    this.#server.close();
    rmSync(this.path, { force: true });
    await Promise.resolve();
  }
}
