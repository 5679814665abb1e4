/**
 * Files and sockets in a VM's jail, for processes outside it. The VMM may be hostile and owns everything below `<jail
 * root>/io`: a name there may become a link to anything at any time. So each file is opened once, without following
 * links, checked through its descriptor, and used through that descriptor. Source: open(2) O_PATH, proc(5).
 */

import { closeSync, constants, fstatSync, openSync, type Stats } from "node:fs";
import { join } from "node:path";
import { limitWait, type Patience } from "./streams/deadline.ts";
import { connectUnix, type Wire } from "./streams/wire.ts";
import { BangerError } from "./errors.ts";
import { JAIL } from "./contract/jail-names.ts";

/** Missing from Node's constants; the same on every architecture that banger runs on. */
const O_PATH = 0o10000000;

/** The directory that is `/` to a VM's Firecracker (jailer's layout: `<base>/firecracker/<id>/root`). */
export const jailRootOf = (jailDir: string, vm: string): string => join(jailDir, "firecracker", vm, "root");

/** An open descriptor, usable through `/proc/self/fd/<fd>` until it is closed. */
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

/** Turns an in-jail path into a name below {@link JAIL.io}. */
function nameInIo(path: string): string {
  const name = path.slice(JAIL.io.length + 1);
  if (!path.startsWith(`${JAIL.io}/`) || !/^[A-Za-z0-9._-]+$/.test(name) || name.startsWith("."))
    throw new BangerError("INTERNAL", `${path} is not directly below ${JAIL.io}`);
  return name;
}

/**
 * Opens a name in `io` and checks what it opened. The directory is root's and its group is the VM's. The attack: a file
 * of another user, or one with a second name, put there so that it is read or written in place of the VM's own.
 * @throws the system call's error (ENOENT, ELOOP …); BangerError UNSAFE_DIRECTORY
 */
function openInIo(jailRoot: string, path: string, flags: number, kind: "file" | "socket"): JailDescriptor {
  using directory = descriptor(
    openSync(join(jailRoot, JAIL.io), O_PATH | constants.O_DIRECTORY | constants.O_NOFOLLOW),
  );
  const opened = descriptor(openSync(`${directory.path}/${nameInIo(path)}`, flags | constants.O_NOFOLLOW));
  const { uid, gid } = fstatSync(directory.fd);
  // In jails made by an earlier version, the directory itself belongs to the VM.
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
 * Opens one of the VM's regular files in the jail.
 * @throws the system call's error (ENOENT, ELOOP …); BangerError UNSAFE_DIRECTORY for anything else
 */
export function openJailFile(jailRoot: string, path: string, access: "read" | "write" = "read"): JailDescriptor {
  // Non-blocking: a FIFO in the file's place, or a lease on it, must not block the daemon.
  const flags = (access === "read" ? constants.O_RDONLY : constants.O_WRONLY) | constants.O_NONBLOCK;
  return openInIo(jailRoot, path, flags, "file");
}

/** Opens one of the VM's sockets in the jail; connect to its `path`. @throws like {@link openJailFile} */
export function openJailSocket(jailRoot: string, path: string): JailDescriptor {
  return openInIo(jailRoot, path, O_PATH, "socket");
}

/** The longest answer to CONNECT: `OK`, a port, a newline. */
const ANSWER_LIMIT_BYTES = 32;

/**
 * Connects to a port of the guest through Firecracker's vsock device: `CONNECT <port>\n`, `OK <port>\n`, then the
 * guest's bytes, some of which may come with the answer. Source: Firecracker docs/vsock.md.
 * @throws BangerError GUEST_NOT_READY if nothing listens there, or nothing answers in time; CANCELLED
 */
export async function connectVsock(jailRoot: string, port: number, { timeoutMs, signal }: Patience): Promise<Wire> {
  const unreachable = (why: string, cause?: unknown): BangerError =>
    new BangerError("GUEST_NOT_READY", `vsock port ${port} of the guest: ${why}`, { cause });
  let wire: Wire;
  try {
    using target = openJailSocket(jailRoot, JAIL.vsockSocket);
    wire = await connectUnix(target.path);
  } catch (thrown) {
    throw unreachable((thrown as Error).message, thrown);
  }
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  using _limit = limitWait(
    { timeoutMs, signal },
    () => reject(unreachable(`no answer within ${timeoutMs} ms`)),
    reject,
  );
  let answer = Buffer.alloc(0);
  wire.read({
    onData: (chunk) => {
      answer = Buffer.concat([answer, chunk]);
      const end = answer.indexOf("\n");
      if (end === -1 && answer.length <= ANSWER_LIMIT_BYTES) return;
      wire.pause();
      if (end === -1 || !/^OK \d{1,10}$/.test(answer.subarray(0, end).toString("latin1")))
        return reject(unreachable("the answer is not Firecracker's"));
      wire.unread(answer.subarray(end + 1));
      resolve();
    },
    // Firecracker closes without an answer if nothing listens in the guest.
    onEnd: () => reject(unreachable("nothing listens there")),
  });
  try {
    wire.write(Buffer.from(`CONNECT ${port}\n`));
    wire.resume();
    await promise;
    return wire;
  } catch (thrown) {
    wire.close();
    throw thrown;
  } finally {
    wire.read(null);
  }
}
