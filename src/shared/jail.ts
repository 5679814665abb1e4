/**
 * Files and sockets in a VM's jail, for whoever isn't in it. The VMM may be hostile and owns what lies below
 * `<jail root>/io`: a name there may become a link to anything at any time. So each is opened once, without following a
 * link, its type is read from the descriptor, and it is used through that descriptor. Source: open(2) O_PATH, proc(5).
 */

import { closeSync, constants, fstatSync, openSync, type Stats } from "node:fs";
import { connect, type Socket } from "node:net";
import { join } from "node:path";
import { BangerError } from "./errors.ts";
import { JAIL } from "./contract/helper-api.ts";

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

/**
 * Opens a name of `io` and looks at what it got. The directory is root's and its group is the VM's: a file of another user, or one
 * with a second name, was put there by somebody, to have it read or written in place of the VM's own.
 * @throws the system call's error (ENOENT, ELOOP …); BangerError UNSAFE_DIRECTORY
 */
function openInIo(jailRoot: string, path: string, flags: number, kind: "file" | "socket"): JailDescriptor {
  using directory = descriptor(
    openSync(join(jailRoot, JAIL.io), O_PATH | constants.O_DIRECTORY | constants.O_NOFOLLOW),
  );
  const opened = descriptor(openSync(`${directory.path}/${nameInIo(path)}`, flags | constants.O_NOFOLLOW));
  const { uid, gid } = fstatSync(directory.fd);
  // In jails that an earlier version made, the directory itself is the VM's.
  const why = whyUnsafe(fstatSync(opened.fd), uid === 0 ? gid : uid, kind);
  if (why === null) return opened;
  opened[Symbol.dispose]();
  throw new BangerError("UNSAFE_DIRECTORY", `${path} in ${jailRoot} ${why}`);
}

function whyUnsafe(info: Stats, vmUid: number, kind: "file" | "socket"): string | null {
  if (kind === "socket" ? !info.isSocket() : !info.isFile())
    return `is not a ${kind === "socket" ? "socket" : "regular file"}`;
  if (info.uid !== vmUid) return `belongs to uid ${info.uid}, not to the VM`;
  return info.nlink === 1 ? null : `has ${info.nlink} names`;
}

/**
 * Opens a regular file of the VM's in the jail.
 * @throws the system call's error (ENOENT, ELOOP …); BangerError UNSAFE_DIRECTORY for anything else
 */
export function openJailFile(jailRoot: string, path: string, access: "read" | "write" = "read"): JailDescriptor {
  // Without blocking: a FIFO in its place, or a lease on it, must not hold up the daemon.
  const flags = (access === "read" ? constants.O_RDONLY : constants.O_WRONLY) | constants.O_NONBLOCK;
  return openInIo(jailRoot, path, flags, "file");
}

/** A socket of the VM's in the jail, to connect to by its `path`. @throws like {@link openJailFile} */
export function openJailSocket(jailRoot: string, path: string): JailDescriptor {
  return openInIo(jailRoot, path, O_PATH, "socket");
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
