/**
 * Files by descriptor. A path is resolved once, below an open directory and through no link; everything afterwards uses
 * the descriptor, never the name. Source: openat2(2), open(2) "O_PATH", fchownat(2), xattr(7).
 */

import { closeSync, chmodSync, constants, fstatSync, openSync, readdirSync, readFileSync } from "node:fs";
import { rmdir, unlink } from "node:fs/promises";
import { isErrno } from "../../shared/errors.ts";
import { addressOf, check, cString, errno, libc, ptr } from "./libc.ts";

const SYS_OPENAT2 = 437;
const AT_FDCWD = -100;
const AT_EMPTY_PATH = 0x1000;
const AT_REMOVEDIR = 0x200;
/** Missing from Node's constants; the same on x86-64 and arm64. */
export const O_PATH = 0o10000000;
const O_CLOEXEC = 0o2000000;
const S_IFBLK = 0o60000;
const RENAME_NOREPLACE = 1;
const SEEK_SET = 0;
/** Room for about a thousand names. */
const NAMES_BYTES = 32 * 1024;
const ATTRIBUTE_BYTES = 256;
/** struct linux_dirent64: u64 d_ino, s64 d_off, u16 d_reclen, u8 d_type, then the name. */
const RECORD_LENGTH_AT = 16;
const RECORD_NAME_AT = 19;

const RESOLVE_NO_XDEV = 0x01;
const RESOLVE_NO_MAGICLINKS = 0x02;
const RESOLVE_NO_SYMLINKS = 0x04;
const RESOLVE_BENEATH = 0x08;

/** A name in a directory. Others may choose it, so it stays bytes: text would corrupt names that aren't UTF-8. */
export type FileName = string | Uint8Array;

/** Formats a name for messages. */
const show = (name: FileName): string =>
  typeof name === "string" ? name : JSON.stringify(Buffer.from(name).toString("latin1"));

/** What `fstat` reports about an open file. */
export interface FileFacts {
  readonly kind: "file" | "directory" | "socket" | "block" | "other";
  readonly uid: number;
  readonly gid: number;
  /** Permission bits, 0 to 07777. */
  readonly mode: number;
  readonly links: number;
  readonly bytes: number;
  readonly allocatedBytes: number;
  /** `device:inode`, the file's identity on this host. */
  readonly identity: string;
}

/** An open file or directory, closed at the end of the block that holds it (`using`). */
export class Descriptor implements Disposable {
  readonly fd: number;
  /** For messages only. */
  readonly label: string;

  constructor(fd: number, label: string) {
    this.fd = fd;
    this.label = label;
  }

  [Symbol.dispose](): void {
    closeSync(this.fd);
  }

  /** A path to this very file, for calls that take only a path. It follows nothing but the descriptor. */
  get procPath(): string {
    return `/proc/self/fd/${this.fd}`;
  }

  stat(): FileFacts {
    const info = fstatSync(this.fd, { bigint: true });
    return {
      kind: info.isFile()
        ? "file"
        : info.isDirectory()
          ? "directory"
          : info.isSocket()
            ? "socket"
            : info.isBlockDevice()
              ? "block"
              : "other",
      uid: Number(info.uid),
      gid: Number(info.gid),
      mode: Number(info.mode) & 0o7777,
      links: Number(info.nlink),
      bytes: Number(info.size),
      allocatedBytes: Number(info.blocks) * 512,
      identity: `${info.dev}:${info.ino}`,
    };
  }

  /**
   * Opens a path below this directory: no `..` out of it, no symbolic link anywhere, no magic link, and with
   * `sameFileSystem` no mount point. Never waits for a FIFO's other end or for a lease's holder, who could block every
   * other call for 45 s. Source: fcntl(2) "Leases".
   * @throws SystemCallError (ELOOP for a link, EXDEV for a way out, EAGAIN for a lease, ENOENT, …)
   */
  open(
    path: FileName,
    flags: number,
    options: { readonly mode?: number; readonly sameFileSystem?: boolean } = {},
  ): Descriptor {
    const resolve =
      RESOLVE_BENEATH |
      RESOLVE_NO_SYMLINKS |
      RESOLVE_NO_MAGICLINKS |
      (options.sameFileSystem === true ? RESOLVE_NO_XDEV : 0);
    // openat2 rejects flags that have no meaning with O_PATH.
    const atOnce = (flags & O_PATH) === 0 ? flags | constants.O_NONBLOCK : flags;
    return openat2(this.fd, path, atOnce, options.mode ?? 0, resolve, `${this.label}/${show(path)}`);
  }

  /** Opens a file to inspect or act on, without access to its contents. Doesn't wake a FIFO or device. */
  openPath(path: FileName): Descriptor {
    // Without O_NOFOLLOW: O_PATH would then open a link itself. RESOLVE_NO_SYMLINKS refuses links.
    return this.open(path, O_PATH);
  }

  openDirectory(path: FileName): Descriptor {
    return this.open(path, constants.O_RDONLY | constants.O_DIRECTORY | constants.O_NOFOLLOW);
  }

  /** Like {@link openDirectory}, but refuses a mount point. */
  openOnDevice(path: FileName): Descriptor {
    return this.open(path, constants.O_RDONLY | constants.O_DIRECTORY | constants.O_NOFOLLOW, { sameFileSystem: true });
  }

  makeDirectory(name: string, mode: number): void {
    const path = cString(name);
    check("mkdirat", `${this.label}, ${name}`, libc.mkdirat(this.fd, ptr(path), mode), errno());
  }

  /** Makes a block device node that only its owner can read and write. */
  makeBlockNode(name: string, major: number, minor: number): void {
    const path = cString(name);
    // Linux's encoding of a device number, makedev(3).
    const device =
      (BigInt(minor) & 0xffn) |
      ((BigInt(major) & 0xfffn) << 8n) |
      ((BigInt(minor) & ~0xffn) << 12n) |
      ((BigInt(major) & ~0xfffn) << 32n);
    check(
      "mknodat",
      `${this.label}, ${name}, ${major}:${minor}`,
      libc.mknodat(this.fd, ptr(path), S_IFBLK | 0o600, device),
      errno(),
    );
  }

  /**
   * Makes a new, empty file for the caller alone, open for writing. Raises EEXIST if the name exists, even as a link.
   */
  makeFile(name: string): Descriptor {
    return this.open(name, constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL | constants.O_NOFOLLOW, {
      mode: 0o600,
    });
  }

  makeLink(name: string, target: string): void {
    const path = cString(name);
    const text = cString(target);
    check("symlinkat", `${target}, ${this.label}/${name}`, libc.symlinkat(ptr(text), this.fd, ptr(path)), errno());
  }

  /** Removes a name in this directory. For a link, removes the link, not its target. */
  unlink(name: string): void {
    const path = cString(name);
    check("unlinkat", `${this.label}/${name}`, libc.unlinkat(this.fd, ptr(path), 0), errno());
  }

  removeDirectory(name: FileName): void {
    const path = cString(name);
    check("unlinkat", `${this.label}/${show(name)}`, libc.unlinkat(this.fd, ptr(path), AT_REMOVEDIR), errno());
  }

  /**
   * Removes a file, link or empty directory in another thread, so that a large file or a slow disk blocks no other
   * caller.
   * @throws ErrnoException ENOTEMPTY, ENOENT, EBUSY for a mount point, …
   */
  async remove(name: FileName): Promise<void> {
    const path = Buffer.concat([Buffer.from(`${this.procPath}/`), Buffer.from(name)]);
    try {
      await unlink(path);
    } catch (thrown) {
      if (!isErrno(thrown, "EISDIR") && !isErrno(thrown, "EPERM")) throw thrown;
      await rmdir(path);
    }
  }

  /** Moves a name from this directory to another one. Raises EEXIST instead of replacing anything. */
  move(name: FileName, directory: Descriptor, newName: string): void {
    const from = cString(name);
    const to = cString(newName);
    check(
      "renameat2",
      `${this.label}/${show(name)}, ${directory.label}/${newName}`,
      libc.renameat2(this.fd, ptr(from), directory.fd, ptr(to), RENAME_NOREPLACE),
      errno(),
    );
  }

  /**
   * Reads the next names of this directory, which must be open for reading; none at its end. Raises as getdents64(2).
   */
  nextNames(): readonly Uint8Array[] {
    const bytes = Buffer.alloc(NAMES_BYTES);
    const length = check("getdents64", this.label, libc.getdents64(this.fd, ptr(bytes), BigInt(bytes.length)), errno());
    const names: Uint8Array[] = [];
    for (let at = 0; at < length; at += bytes.readUInt16LE(at + RECORD_LENGTH_AT)) {
      const name = bytes.subarray(at + RECORD_NAME_AT, bytes.indexOf(0, at + RECORD_NAME_AT));
      if (name.length > 2 || !".".repeat(name.length).startsWith(name.toString("latin1"))) names.push(name);
    }
    // A batch with only `.` and `..` is not the end.
    return names.length === 0 && length > 0 ? this.nextNames() : names;
  }

  /** Starts reading names from the beginning again. */
  rewind(): void {
    check("lseek", this.label, libc.lseek(this.fd, 0, SEEK_SET), errno());
  }

  /** The id of the mount through which this file was reached. Source: proc(5) "/proc/pid/fdinfo". */
  mountId(): string {
    return /^mnt_id:\s*(\d+)$/m.exec(readFileSync(`/proc/self/fdinfo/${this.fd}`, "utf8"))?.[1] ?? "";
  }

  /** Lists the names in this directory, which must be open for reading and which only root may write. */
  names(): readonly string[] {
    return readdirSync(this.procPath);
  }

  chown(uid: number, gid: number): void {
    const empty = cString("");
    check(
      "fchownat",
      `${this.label}, ${uid}, ${gid}`,
      libc.fchownat(this.fd, ptr(empty), uid, gid, AT_EMPTY_PATH),
      errno(),
    );
  }

  chmod(mode: number): void {
    chmodSync(this.procPath, mode);
  }

  /** Reads an attribute of at most 256 bytes; null if it isn't set. */
  attribute(name: string): Uint8Array | null {
    const path = cString(this.procPath);
    const key = cString(name);
    const value = new Uint8Array(ATTRIBUTE_BYTES);
    try {
      const length = check(
        "getxattr",
        `${this.label}, ${name}`,
        libc.getxattr(ptr(path), ptr(key), ptr(value), BigInt(value.length)),
        errno(),
      );
      return value.subarray(0, length);
    } catch (thrown) {
      if (isErrno(thrown, "ENODATA")) return null;
      throw thrown;
    }
  }

  setAttribute(name: string, value: Uint8Array): void {
    const path = cString(this.procPath);
    const key = cString(name);
    check(
      "setxattr",
      `${this.label}, ${name}`,
      libc.setxattr(ptr(path), ptr(key), ptr(value), BigInt(value.length), 0),
      errno(),
    );
  }
}

function openat2(
  dirFd: number,
  path: FileName,
  flags: number,
  mode: number,
  resolve: number,
  label: string,
): Descriptor {
  const name = cString(path);
  // struct open_how: three 64-bit fields.
  const how = new BigUint64Array([BigInt(flags | O_CLOEXEC), BigInt(mode), BigInt(resolve)]);
  const bytes = new Uint8Array(how.buffer);
  const fd = check(
    "openat2",
    label,
    libc.syscall(SYS_OPENAT2, dirFd, addressOf(name), addressOf(bytes), bytes.length),
    errno(),
  );
  return new Descriptor(fd, label);
}

/** Opens a kernel device by a path that only root can make. */
export function openDevice(path: string, readOnly: boolean): Descriptor {
  return new Descriptor(openSync(path, (readOnly ? constants.O_RDONLY : constants.O_RDWR) | O_CLOEXEC), path);
}

/**
 * Opens one of the fixed, absolute directories below which everything else is resolved. Links in its path are refused
 * too: every part belongs to root, and none needs to be a link.
 */
export function openRoot(path: string): Descriptor {
  return openat2(
    AT_FDCWD,
    path,
    constants.O_RDONLY | constants.O_DIRECTORY,
    0,
    RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS,
    path,
  );
}
