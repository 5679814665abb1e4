/**
 * A virtio-serial port of a guest under QEMU, taken for one session. QEMU's socket lets a second process connect and wait for ever, so
 * a port is taken by the lock of `agent.<n>.lock` first: flock(2), which the kernel frees when its holder ends, however it ends.
 */

import { randomInt } from "node:crypto";
import { closeSync, constants, openSync } from "node:fs";
import { connect, type Socket } from "node:net";
import { join } from "node:path";
import { BangerError } from "../errors.ts";
import { unanswered } from "./handshake.ts";
import { AGENT_SERIAL_PORTS } from "./protocol.ts";

const LOCK_EX = 2;
const LOCK_NB = 4;
/** While all ports are taken: the time until the next look, at random within these. */
const RETRY_MS = { least: 5, most: 50 } as const;

let flock: ((fd: number, operation: number) => number) | null = null;

/** Loads the function when the first port is needed: Firecracker's guests have none, and loading a module must do nothing. */
async function loadFlock(): Promise<(fd: number, operation: number) => number> {
  if (flock !== null) return flock;
  const { dlopen, FFIType } = await import("bun:ffi");
  const { symbols } = dlopen("libc.so.6", { flock: { args: [FFIType.i32, FFIType.i32], returns: FFIType.i32 } });
  return (flock = symbols.flock);
}

/** A port's lock, until it is disposed of. Null when somebody has it. */
function lockPort(directory: string, port: number, lock: (fd: number, operation: number) => number): Disposable | null {
  const flags = constants.O_RDWR | constants.O_CREAT | constants.O_NOFOLLOW;
  const fd = openSync(join(directory, `agent.${port}.lock`), flags, 0o600);
  if (lock(fd, LOCK_EX | LOCK_NB) !== 0) {
    closeSync(fd);
    return null;
  }
  let isHeld = true;
  return {
    [Symbol.dispose]: () => {
      if (isHeld) closeSync(fd);
      isHeld = false;
    },
  };
}

/**
 * Connects to a free port of the VM whose runtime directory this is. The port is free again when the socket is closed.
 * @throws BangerError IN_USE when all ports stay taken, GUEST_NOT_READY when there is no VM to connect to, CANCELLED
 */
export async function connectSerialPort(directory: string, timeoutMs: number, signal?: AbortSignal): Promise<Socket> {
  const deadline = performance.now() + timeoutMs;
  const lockOf = await loadFlock();
  for (;;) {
    // At random, so that many execs at once don't all try the same ports.
    const first = randomInt(AGENT_SERIAL_PORTS);
    for (let i = 0; i < AGENT_SERIAL_PORTS; i++) {
      const port = (first + i) % AGENT_SERIAL_PORTS;
      let lock: Disposable | null;
      try {
        lock = lockPort(directory, port, lockOf);
      } catch (thrown) {
        throw unanswered((thrown as Error).message, thrown);
      }
      if (lock !== null) return await connectPort(directory, port, lock, deadline, signal);
    }
    const leftMs = deadline - performance.now();
    if (leftMs <= 0) {
      throw new BangerError(
        "IN_USE",
        `all ${AGENT_SERIAL_PORTS} channels to the guest's agent were in use for ${timeoutMs} ms`,
        { hint: "wait until another command in this VM has ended" },
      );
    }
    await sleep(Math.min(randomInt(RETRY_MS.least, RETRY_MS.most), leftMs), signal);
  }
}

async function connectPort(
  directory: string,
  port: number,
  lock: Disposable,
  deadline: number,
  signal: AbortSignal | undefined,
): Promise<Socket> {
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  const socket = connect({ path: join(directory, `agent.${port}.sock`) });
  socket.once("close", () => lock[Symbol.dispose]());
  const timer = setTimeout(() => reject(unanswered(`port ${port} took no connection`)), deadline - performance.now());
  const onError = (error: Error): void => reject(unanswered(error.message, error));
  const onAbort = (): void => reject(cancelled(signal));
  socket.once("connect", resolve).on("error", onError);
  signal?.addEventListener("abort", onAbort, { once: true });
  try {
    if (signal?.aborted === true) onAbort();
    await promise;
    socket.pause();
    return socket;
  } catch (thrown) {
    socket.destroy();
    throw thrown;
  } finally {
    clearTimeout(timer);
    signal?.removeEventListener("abort", onAbort);
  }
}

const cancelled = (signal: AbortSignal | undefined): BangerError =>
  new BangerError("CANCELLED", "cancelled", { cause: signal?.reason });

/** @throws BangerError CANCELLED */
export async function sleep(ms: number, signal?: AbortSignal): Promise<void> {
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  const timer = setTimeout(resolve, ms);
  const onAbort = (): void => reject(cancelled(signal));
  signal?.addEventListener("abort", onAbort, { once: true });
  if (signal?.aborted === true) onAbort();
  try {
    await promise;
  } finally {
    clearTimeout(timer);
    signal?.removeEventListener("abort", onAbort);
  }
}

/** The numbers of the ports. */
export const SERIAL_PORTS: readonly number[] = Array.from({ length: AGENT_SERIAL_PORTS }, (_, port) => port);

/** The socket that QEMU listens on for a port. */
export const agentSocketPath = (directory: string, port: number): string => join(directory, `agent.${port}.sock`);

/** The file whose lock (flock(2)) says who uses a port: QEMU itself would let a second connection wait for ever. */
export const agentLockPath = (directory: string, port: number): string => join(directory, `agent.${port}.lock`);
