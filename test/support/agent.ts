/** The agent's build for tests on this machine, and a host's side of its sessions. */

import { existsSync, readFileSync } from "node:fs";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { createConnection, type Socket } from "node:net";
import { randomBytes } from "node:crypto";
import { join } from "node:path";
import {
  AGENT_LIMITS,
  AGENT_PROTOCOL,
  ANSWER_MAGIC,
  EXEC_FLAGS,
  type FrameName,
  HELLO_MAGIC,
  MAGIC_BYTES,
  NONCE_BYTES,
} from "../../src/shared/agent/protocol.ts";
import { buildAgent } from "../../scripts/build-agent.ts";
import { decodeFrame, encodeFrame, type FieldValues, type Frame } from "./agent-frames.ts";

export interface TestAgent extends AsyncDisposable {
  readonly socket: string;
  readonly pid: number;
  /** What the sanitizers said, and anything else on stderr. */
  complaints(): Promise<string>;
}

export interface AgentOptions {
  /** `port`: the first connection is served like a virtio-serial port. */
  readonly mode?: "listen" | "port";
  /** The command that starts the agent, its last word left out: the agent's own command line follows it. */
  readonly prefix?: readonly string[];
  readonly env?: Readonly<Record<string, string>>;
}

/** Once in a process: it takes some seconds. */
let built: Promise<string> | undefined;

/** Builds the agent and lets it listen. Its end fails if a sanitizer found something. */
export async function startAgent({ mode = "listen", prefix = [], env = {} }: AgentOptions = {}): Promise<TestAgent> {
  built ??= buildAgent({ arch: process.arch === "arm64" ? "arm64" : "x64", forTests: true });
  const program = await built;
  const directory = await mkdtemp("/tmp/banger-agent-test-");
  const socket = join(directory, "agent.sock");
  const log = join(directory, "stderr");
  const child = Bun.spawn([...prefix, program, `--${mode}`, socket], {
    stdio: ["ignore", "ignore", Bun.file(log)],
    env: { PATH: process.env["PATH"], ASAN_OPTIONS: "detect_leaks=0", UBSAN_OPTIONS: "print_stacktrace=1", ...env },
  });
  const complaints = async (): Promise<string> => await readFile(log, "utf8").catch(() => "");
  const end = async (): Promise<void> => {
    child.kill("SIGKILL");
    await child.exited;
    const said = await complaints();
    await rm(directory, { recursive: true, force: true });
    if (said !== "") throw new Error(`the agent said: ${said}`);
  };
  // The socket is there as soon as it is bound; `connect` then waits for it to listen.
  await waitUntil("the agent has its socket", () => child.exitCode !== null || existsSync(socket)).catch(
    async (why) => {
      await end();
      throw why;
    },
  );
  return { socket, pid: child.pid, complaints, [Symbol.asyncDispose]: end };
}

/** Looks until something is so. @throws Error if that takes too long */
export async function waitUntil(
  what: string,
  isSo: () => boolean | Promise<boolean>,
  withinMs = 30_000,
): Promise<void> {
  const until = performance.now() + withinMs;
  while (!(await isSo())) {
    if (performance.now() > until) throw new Error(`not within ${withinMs / 1000} s: ${what}`);
    await Bun.sleep(10);
  }
}

/** Whether a process runs: a zombie doesn't. */
export function isAlive(pid: number): boolean {
  try {
    return !/\) [ZX] /.test(readFileSync(`/proc/${pid}/stat`, "utf8"));
  } catch {
    return false;
  }
}

const SLEEPING_LOOKS = 50;

/** Waits until a process sleeps whenever one looks: one that polls for what never comes is seen running. */
export async function waitUntilAsleep(pid: number): Promise<void> {
  let looks = 0;
  await waitUntil(`process ${pid} sleeps`, () => {
    looks = /\) S /.test(readFileSync(`/proc/${pid}/stat`, "utf8")) ? looks + 1 : 0;
    return looks >= SLEEPING_LOOKS;
  });
}

/** A process's parent: of a command, its session. */
export function parentOf(pid: number): number {
  return Number(/PPid:\t(\d+)/.exec(readFileSync(`/proc/${pid}/status`, "utf8"))?.[1]);
}

async function tryConnect(path: string): Promise<Socket> {
  return await new Promise((resolve, reject) => {
    const socket = createConnection(path);
    socket.once("connect", () => resolve(socket)).once("error", reject);
  });
}

export async function connect(path: string): Promise<Socket> {
  let socket: Socket | null = null;
  await waitUntil(`${path} listens`, async () => (socket = await tryConnect(path).catch(() => null)) !== null);
  if (socket === null) throw new Error(`${path} doesn't listen`);
  return socket;
}

export function encodeHello(nonce: Uint8Array, version: number = AGENT_PROTOCOL): Buffer {
  const number = Buffer.alloc(4);
  number.writeUInt32LE(version);
  return Buffer.concat([Buffer.from(HELLO_MAGIC, "latin1"), nonce, number]);
}

/** The host's side of a stream. Reads only as far as asked, so that a slow host is a test that doesn't ask. */
export class Session {
  readonly socket: Socket;
  #held = Buffer.alloc(0);

  constructor(socket: Socket) {
    this.socket = socket;
    // A session that the agent ends while bytes are under way ends with an error.
    socket.on("error", () => undefined);
  }

  write(bytes: Uint8Array): void {
    this.socket.write(bytes);
  }

  send(name: FrameName, fields: FieldValues = {}, bytes: Uint8Array | string = ""): void {
    this.write(encodeFrame(name, fields, Buffer.from(bytes)));
  }

  /** More bytes behind those held. False at the end. */
  async #more(): Promise<boolean> {
    for (;;) {
      const chunk = this.socket.read() as Buffer | null;
      if (chunk !== null) {
        this.#held = Buffer.concat([this.#held, chunk]);
        return true;
      }
      if (this.socket.readableEnded || this.socket.destroyed) return false;
      await new Promise<void>((resolve) => {
        const done = (): void => {
          for (const event of ["readable", "end", "close"]) this.socket.off(event, done);
          resolve();
        };
        for (const event of ["readable", "end", "close"]) this.socket.on(event, done);
      });
    }
  }

  async take(length: number): Promise<Buffer> {
    while (this.#held.length < length) if (!(await this.#more())) throw new Error("the stream ended early");
    const taken = this.#held.subarray(0, length);
    this.#held = this.#held.subarray(length);
    return taken;
  }

  /** Sends a hello and reads up to its answer. Returns the agent's version. */
  async greet(version?: number): Promise<number> {
    const nonce = randomBytes(NONCE_BYTES);
    this.write(encodeHello(nonce, version));
    const wanted = Buffer.concat([Buffer.from(ANSWER_MAGIC, "latin1"), nonce]);
    for (;;) {
      const at = this.#held.indexOf(wanted);
      if (at >= 0 && this.#held.length >= at + MAGIC_BYTES + NONCE_BYTES + 4) {
        this.#held = this.#held.subarray(at);
        return (await this.take(MAGIC_BYTES + NONCE_BYTES + 4)).readUInt32LE(MAGIC_BYTES + NONCE_BYTES);
      }
      if (!(await this.#more())) throw new Error("no answer to the hello");
    }
  }

  /** The next frame, or null at the end of the stream. */
  async next(): Promise<Frame | null> {
    for (;;) {
      const found = decodeFrame(this.#held);
      if (found !== null) {
        this.#held = this.#held.subarray(found.length);
        return found.frame;
      }
      if (!(await this.#more())) return null;
    }
  }

  /** The next frame, which must be of this name. */
  async expect(name: FrameName): Promise<Frame> {
    const frame = await this.next();
    if (frame?.name !== name) throw new Error(`wanted ${name}, got ${frame?.name} ${frame?.bytes.toString()}`);
    return frame;
  }

  close(): void {
    this.socket.destroy();
  }
}

export async function openSession(agent: Pick<TestAgent, "socket">): Promise<Session> {
  const session = new Session(await connect(agent.socket));
  await session.greet();
  return session;
}

export interface Command {
  readonly argv: readonly (string | Uint8Array)[];
  readonly env?: Readonly<Record<string, string>>;
  readonly directory?: string;
  readonly user?: string;
  readonly flags?: readonly (keyof typeof EXEC_FLAGS)[];
  readonly rows?: number;
  readonly columns?: number;
  readonly timeoutMs?: number;
  readonly killAfterMs?: number;
}

function sendPieces(session: Session, name: FrameName, texts: readonly (string | Uint8Array)[]): void {
  const all = Buffer.concat(texts.flatMap((text) => [Buffer.from(text), Buffer.from([0])]));
  for (let at = 0; at < all.length; at += AGENT_LIMITS.payloadBytes)
    session.send(name, {}, all.subarray(at, at + AGENT_LIMITS.payloadBytes));
}

export function sendExec(session: Session, command: Command): void {
  const {
    argv,
    env = {},
    directory,
    user,
    flags = [],
    rows = 0,
    columns = 0,
    timeoutMs = 0,
    killAfterMs = 0,
  } = command;
  sendPieces(session, "argument", argv);
  sendPieces(
    session,
    "variable",
    Object.entries(env).map(([name, value]) => `${name}=${value}`),
  );
  if (directory !== undefined) session.send("directory", {}, directory);
  if (user !== undefined) session.send("user", {}, user);
  const bits = flags.reduce((sum, flag) => sum | EXEC_FLAGS[flag], 0);
  session.send("exec", { flags: bits, rows, columns, timeoutMs, killAfterMs });
}

export interface Ran {
  /** `exited` or `error`; null if the stream ended without either. */
  readonly last: Frame | null;
  readonly stdout: Buffer;
  readonly stderr: Buffer;
  /** The names of all frames, `stdout`, `stderr` and `credit` left out. */
  readonly others: readonly FrameName[];
}

/** Reads a session to its last word. */
export async function readToEnd(session: Session): Promise<Ran> {
  const stdout: Buffer[] = [];
  const stderr: Buffer[] = [];
  const others: FrameName[] = [];
  for (;;) {
    const frame = await session.next();
    if (frame === null || ["exited", "error", "done", "ready"].includes(frame.name))
      return { last: frame, stdout: Buffer.concat(stdout), stderr: Buffer.concat(stderr), others };
    if (frame.name === "stdout") stdout.push(frame.bytes);
    else if (frame.name === "stderr") stderr.push(frame.bytes);
    else if (frame.name !== "credit") others.push(frame.name);
  }
}

/**
 * Reads a session to its last word while sending this input, never more than the window allows. `each` gets the output instead
 * of the result, so that it may be of any size.
 */
export async function feed(session: Session, input: Uint8Array, each: (bytes: Buffer) => void): Promise<Frame | null> {
  let room: number = AGENT_LIMITS.stdinWindowBytes;
  for (let at = 0, isEnded = false; ;) {
    while (room > 0 && at < input.length) {
      const length = Math.min(room, input.length - at, AGENT_LIMITS.payloadBytes);
      session.send("stdin", {}, input.subarray(at, at + length));
      at += length;
      room -= length;
    }
    if (at === input.length && !isEnded) session.send("stdinEnd");
    isEnded = at === input.length;
    const frame = await session.next();
    if (frame?.name === "credit") room += Number(frame.fields["bytes"]);
    else if (frame?.name === "stdout") each(frame.bytes);
    else if (frame?.name !== "started" && frame?.name !== "stderr") return frame;
  }
}

/** Runs a command with this input, which must fit into the window. */
export async function runCommand(agent: Pick<TestAgent, "socket">, command: Command, stdin = ""): Promise<Ran> {
  const session = await openSession(agent);
  sendExec(session, command);
  if (command.flags?.includes("noStdin") !== true) {
    if (stdin !== "") session.send("stdin", {}, stdin);
    session.send("stdinEnd");
  }
  const ran = await readToEnd(session);
  session.close();
  return ran;
}
