/**
 * A virtio-serial port of a guest under QEMU, taken for one session. QEMU's socket lets a second process connect and wait for ever, so
 * a port is taken by the lock of `agent.<n>.lock` first: flock(2), which the kernel frees when its holder ends, however it ends.
 */

import { closeSync, constants, openSync } from "node:fs";
import { join } from "node:path";
import { BangerError } from "../errors.ts";
import { countDown, type Patience, sleep } from "../streams/deadline.ts";
import { unanswered } from "./handshake.ts";
import { AGENT_SERIAL_PORTS } from "./protocol.ts";
import { connectUnix, type Wire } from "../streams/wire.ts";

/** The numbers of the ports. */
export const SERIAL_PORTS: readonly number[] = Array.from({ length: AGENT_SERIAL_PORTS }, (_, port) => port);

/** The socket that QEMU listens on for a port. */
export const agentSocketPath = (directory: string, port: number): string => join(directory, `agent.${port}.sock`);

/** The file whose lock says who uses a port. */
export const agentLockPath = (directory: string, port: number): string => join(directory, `agent.${port}.lock`);

const LOCK_EX = 2;
const LOCK_NB = 4;
/** While all ports are taken: the time until the next look, at random within these. */
const RETRY_MS = { least: 20, most: 100 } as const;

/** `directory` is the VM's runtime directory. A look is short, and may take the port that is kept for it. */
export interface SerialPlace {
  readonly directory: string;
  readonly isLook?: boolean;
}

type Flock = (fd: number, operation: number) => number;
let loaded: Flock | null = null;

/** Loads the function when the first port is needed: Firecracker's guests have none, and loading a module must do nothing. */
async function loadFlock(): Promise<Flock> {
  if (loaded !== null) return loaded;
  const { dlopen, FFIType } = await import("bun:ffi");
  const { symbols } = dlopen("libc.so.6", { flock: { args: [FFIType.i32, FFIType.i32], returns: FFIType.i32 } });
  loaded = symbols.flock;
  return loaded;
}

/** A port's lock, until it is disposed of. Null when somebody has it. */
function lockPort(directory: string, port: number, flock: Flock): Disposable | null {
  const flags = constants.O_RDWR | constants.O_CREAT | constants.O_NOFOLLOW;
  const fd = openSync(agentLockPath(directory, port), flags, 0o600);
  if (flock(fd, LOCK_EX | LOCK_NB) !== 0) {
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
 * Connects to a free port of the VM whose runtime directory this is. The port is free again when the wire is closed.
 * @throws BangerError IN_USE when all ports stay taken, GUEST_NOT_READY when there is no VM to connect to, CANCELLED
 */
export async function connectSerialPort(place: SerialPlace, { timeoutMs, signal }: Patience): Promise<Wire> {
  const leftMs = countDown(timeoutMs);
  const flock = await loadFlock();
  for (;;) {
    const found = await connectFreePort(place, flock);
    if (found !== null) return found;
    if (leftMs() <= 1) {
      throw new BangerError(
        "IN_USE",
        `all ${AGENT_SERIAL_PORTS} channels to the guest's agent were in use for ${timeoutMs} ms`,
      );
    }
    await sleep(Math.min(RETRY_MS.least + Math.random() * (RETRY_MS.most - RETRY_MS.least), leftMs()), signal);
  }
}

/** Null when all ports are taken. @throws BangerError GUEST_NOT_READY when none is, and none can be connected to */
async function connectFreePort({ directory, isLook }: SerialPlace, flock: Flock): Promise<Wire | null> {
  // The last one is kept for looks: with all others in use, somebody must still notice that the agent is gone.
  const count = isLook === true ? AGENT_SERIAL_PORTS : AGENT_SERIAL_PORTS - 1;
  // At random, so that many execs at once don't all try the same ports.
  const first = Math.floor(Math.random() * count);
  let failure: Error | null = null;
  let taken = 0;
  for (let i = 0; i < count; i++) {
    const port = (first + i) % count;
    try {
      const lock = lockPort(directory, port, flock);
      if (lock === null) taken++;
      else return await connectLocked(agentSocketPath(directory, port), lock);
    } catch (thrown) {
      failure ??= thrown as Error;
    }
  }
  // A port that is free but refuses may have an earlier holder's connection in its queue; with others in use, it will pass.
  if (failure !== null && taken === 0) throw unanswered(failure.message, failure);
  return null;
}

async function connectLocked(path: string, lock: Disposable): Promise<Wire> {
  try {
    const wire = await connectUnix(path);
    void wire.gone.then(() => lock[Symbol.dispose]());
    return wire;
  } catch (thrown) {
    lock[Symbol.dispose]();
    throw thrown;
  }
}
