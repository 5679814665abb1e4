/**
 * Files and sockets in a VM's jail, for whoever isn't in it. The VMM may be hostile and owns what lies below
 * `<jail root>/io`: a name there may become a link to anything at any time. So each is opened once, without following a
 * link, its type is read from the descriptor, and it is used through that descriptor. Source: open(2) O_PATH, proc(5).
 */

import { closeSync, constants, fstatSync, openSync } from "node:fs";
import { connect, type Socket } from "node:net";
import { join } from "node:path";
import { BangerError } from "./errors.ts";
import { JAIL } from "./helper-contract.ts";

/** Not among Node's constants; the same on every architecture banger runs on. */
const O_PATH = 0o10000000;

/** The directory that is `/` to a VM's Firecracker (jailer's layout: `<base>/firecracker/<id>/root`). */
export const jailRootOf = (jailDir: string, vm: string): string => join(jailDir, "firecracker", vm, "root");

/** A descriptor; usable through `/proc/self/fd/<fd>` until closed. */
export interface JailDescriptor extends Disposable {
  readonly fd: number;
  readonly path: string;
}

function descriptor(fd: number): JailDescriptor {
  let isOpen = true;
  return {
    fd,
    path: `/proc/self/fd/${fd}`,
    [Symbol.dispose]: () => {
      if (isOpen) closeSync(fd);
      isOpen = false;
    },
  };
}

/** The name of an in-jail path below {@link JAIL.io}. */
function nameInIo(path: string): string {
  const name = path.slice(JAIL.io.length + 1);
  if (!path.startsWith(`${JAIL.io}/`) || !/^[A-Za-z0-9._-]+$/.test(name) || name.startsWith("."))
    throw new BangerError("INTERNAL", `${path} is not directly below ${JAIL.io}`);
  return name;
}

function openBelowIo(jailRoot: string, path: string, flags: number): number {
  using directory = descriptor(
    openSync(join(jailRoot, JAIL.io), O_PATH | constants.O_DIRECTORY | constants.O_NOFOLLOW),
  );
  return openSync(`${directory.path}/${nameInIo(path)}`, flags | constants.O_NOFOLLOW);
}

/**
 * Opens a regular file of the jail for reading.
 * @throws the system call's error (ENOENT, ELOOP …); BangerError UNSAFE_DIRECTORY for anything but a regular file
 */
export function openJailFile(jailRoot: string, path: string, access: "read" | "write" = "read"): JailDescriptor {
  // Without blocking: a FIFO in its place must not hold up the daemon.
  const flags = (access === "read" ? constants.O_RDONLY : constants.O_WRONLY) | constants.O_NONBLOCK;
  const opened = descriptor(openBelowIo(jailRoot, path, flags));
  if (fstatSync(opened.fd).isFile()) return opened;
  opened[Symbol.dispose]();
  throw new BangerError("UNSAFE_DIRECTORY", `${path} in ${jailRoot} is not a regular file`);
}

/** A socket of the jail, to connect to by its `path`. @throws like {@link openJailFile} */
export function openJailSocket(jailRoot: string, path: string): JailDescriptor {
  const opened = descriptor(openBelowIo(jailRoot, path, O_PATH));
  if (fstatSync(opened.fd).isSocket()) return opened;
  opened[Symbol.dispose]();
  throw new BangerError("UNSAFE_DIRECTORY", `${path} in ${jailRoot} is not a socket`);
}

/** Longest answer to CONNECT: `OK`, a port, a newline. */
const ANSWER_LIMIT_BYTES = 32;

/**
 * A connection to a port of the guest through Firecracker's vsock device: `CONNECT <port>\n`, `OK <port>\n`, then the guest's
 * bytes, of which some may come with the answer. The socket is paused: `pipe` it or `resume` it. Source: Firecracker docs/vsock.md.
 * @throws BangerError GUEST_NOT_READY when nobody listens there, or nothing answers within `timeoutMs`
 */
export async function connectVsock(jailRoot: string, port: number, timeoutMs: number): Promise<Socket> {
  const unreachable = (why: string, cause?: unknown): BangerError =>
    new BangerError("GUEST_NOT_READY", `vsock port ${port} of the guest: ${why}`, { cause });
  let target: JailDescriptor;
  try {
    target = openJailSocket(jailRoot, JAIL.vsockSocket);
  } catch (thrown) {
    throw unreachable((thrown as Error).message, thrown);
  }
  const socket = connect({ path: target.path });
  try {
    return await new Promise<Socket>((resolve, reject) => {
      let answer = Buffer.alloc(0);
      const timer = setTimeout(() => reject(unreachable(`no answer within ${timeoutMs} ms`)), timeoutMs);
      const onData = (chunk: Buffer): void => {
        answer = Buffer.concat([answer, chunk]);
        const end = answer.indexOf("\n");
        if (end === -1 && answer.length <= ANSWER_LIMIT_BYTES) return;
        clearTimeout(timer);
        socket.off("data", onData);
        socket.pause();
        if (end === -1 || !/^OK \d{1,10}$/.test(answer.subarray(0, end).toString("latin1")))
          return reject(unreachable("not Firecracker's answer"));
        socket.removeAllListeners("close");
        socket.removeAllListeners("error");
        const rest = answer.subarray(end + 1);
        if (rest.length > 0) socket.unshift(rest);
        resolve(socket);
      };
      socket.on("data", onData);
      socket.once("connect", () => socket.write(`CONNECT ${port}\n`));
      socket.once("error", (error) => {
        clearTimeout(timer);
        reject(unreachable(error.message, error));
      });
      // Firecracker closes without an answer when nobody listens in the guest.
      socket.once("close", () => {
        clearTimeout(timer);
        reject(unreachable("nobody listens there"));
      });
    });
  } catch (thrown) {
    socket.destroy();
    throw thrown;
  } finally {
    target[Symbol.dispose]();
  }
}
