/** The tests' own system-mode tree below /srv, an owner, VMs' uids, and processes that attack as them. */

import { dlopen, FFIType, ptr } from "bun:ffi";
import {
  chmodSync,
  chownSync,
  closeSync,
  constants,
  copyFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readFileSync,
  readSync,
  rmdirSync,
  rmSync,
  statSync,
  writeFileSync,
  writeSync,
} from "node:fs";
import { dirname, join } from "node:path";
import { systemPaths } from "../../src/shared/places/paths.ts";
import type { HelperContext } from "../../src/helper/context.ts";
import { ensureDirectories } from "../../src/helper/files/directories.ts";
import { listInterfaces, readInterface } from "../../src/helper/network/interfaces.ts";
import { takeSlot } from "../../src/helper/jail/slots.ts";
import { addressOf, check, errno, libc } from "../../src/helper/sys/libc.ts";
import { isErrno } from "../../src/shared/errors.ts";
import { RULE_PREFERENCES } from "../../src/shared/network/walls.ts";

if (process.env["BANGER_TEST_ROOT"] !== "1") throw new Error("these tests run in namespaces: bun test/root/run.ts");

export const OWNER = 61_234;
export const STRANGER = 61_235;
export const VM = "0123456789ab";
/** The tests look at every process of the host, so another run must use other ids. */
const VM_IDS = { first: 300_000 + (process.pid % 10_000) * 50, count: 50 };
/** An id of that range that no test's VM gets by itself. */
export const OTHER_VM_UID = VM_IDS.first + VM_IDS.count - 1;
/** How long a race runs, in milliseconds. */
export const RACE_MS = Number(process.env["BANGER_RACE_MS"] ?? 10_000);

/** Runs a program and returns its output. @throws Error if it fails */
export function run(...argv: readonly string[]): string {
  const { exitCode, stdout, stderr } = Bun.spawnSync([...argv]);
  if (exitCode !== 0) throw new Error(`${argv.join(" ")}: ${stderr.toString()}`);
  return stdout.toString();
}
export const ip = (...args: readonly string[]): string => run("/usr/sbin/ip", ...args);
export const iptables = (...args: readonly string[]): string => run("/usr/sbin/iptables", "-w", ...args);

export interface TestHost extends Disposable {
  readonly context: HelperContext;
  /** Root's directory outside of everything banger's, which no attack may change. */
  readonly treasure: string;
  /** Makes a directory or file as the owner, below the state directory. */
  ownersDirectory(path: string): string;
  ownersFile(path: string, contents?: string): string;
}

/** Where cgroup v2 is mounted here. */
function findCgroupRoot(): string {
  return existsSync("/sys/fs/cgroup/unified") ? "/sys/fs/cgroup/unified" : "/sys/fs/cgroup";
}

export function makeHost(): TestHost {
  // Not below /tmp: only root may be able to write any directory on the path.
  const root = mkdtempSync("/srv/banger-root-test-");
  chmodSync(root, 0o755);
  const paths = systemPaths(root);
  mkdirSync(join(root, "var/lib"), { recursive: true, mode: 0o755 });
  mkdirSync(dirname(paths.helperSocket), { recursive: true, mode: 0o711 });
  ensureDirectories({ paths });
  // With the options of var-lib-banger-jail.mount.
  run("mount", "--bind", paths.jailDir, paths.jailDir);
  run("mount", "-o", "remount,bind,nosuid,nodev,noexec", paths.jailDir);
  mkdirSync(paths.stateDir, { mode: 0o700 });
  chownSync(paths.stateDir, OWNER, OWNER);
  const treasure = join(root, "treasure");
  mkdirSync(join(treasure, "inner"), { recursive: true, mode: 0o755 });
  for (const name of ["rootfs.ext4", "vmlinux", "work.ext4", "api.sock", "inner/file"]) {
    writeFileSync(join(treasure, name), "root's own", { mode: 0o600 });
  }
  const context: HelperContext = {
    paths,
    install: {
      owner: { uid: OWNER, gid: OWNER, name: "dev" },
      vm_ids: VM_IDS,
      firecracker: { version: "1.16.1", directory: join(root, "firecracker") },
    },
    cgroupRoot: findCgroupRoot(),
  };
  const ownersDirectory = (path: string): string => {
    let at = paths.stateDir;
    for (const part of path.split("/")) {
      at = join(at, part);
      if (existsSync(at)) continue;
      mkdirSync(at, { mode: 0o700 });
      chownSync(at, OWNER, OWNER);
    }
    return at;
  };
  return {
    context,
    treasure,
    ownersDirectory,
    ownersFile: (path, contents = "the owner's") => {
      const file = join(ownersDirectory(path.slice(0, path.lastIndexOf("/"))), path.slice(path.lastIndexOf("/") + 1));
      writeFileSync(file, contents, { mode: 0o600 });
      chownSync(file, OWNER, OWNER);
      return file;
    },
    [Symbol.dispose]: () => {
      run("umount", "--recursive", "--lazy", paths.jailDir);
      rmSync(root, { recursive: true, force: true });
    },
  };
}

export const uidOf = (host: TestHost, vm = VM): number => takeSlot(host.context, vm).uid;

/** A program running as another user: `body` is the text of a module. */
export interface Attacker extends AsyncDisposable {
  readonly exited: Promise<number>;
  output(): Promise<string>;
}

const PROGRAM_FOR_ALL = "/mnt/banger-root-test-bun";

/**
 * A Bun that every user can run, because a checkout is often in a home that only its owner may enter. In memory, in
 * this mount namespace, which ends with this process's test files.
 */
function findProgramForAll(): string {
  if (!existsSync(PROGRAM_FOR_ALL)) {
    run("mount", "-t", "tmpfs", "-o", "mode=755", "tmpfs", dirname(PROGRAM_FOR_ALL));
    copyFileSync(process.execPath, PROGRAM_FOR_ALL);
    chmodSync(PROGRAM_FOR_ALL, 0o755);
  }
  return PROGRAM_FOR_ALL;
}

/** Whether cgroups can be made here; containers often forbid it. */
export function canMakeCgroups(): boolean {
  const probe = join(findCgroupRoot(), `banger-root-test-${process.pid}`);
  try {
    mkdirSync(probe);
    rmdirSync(probe);
    return true;
  } catch {
    return false;
  }
}

/** Runs a module's text as that user, without root's groups. `args` arrive in `process.argv` from index 1. */
export function runAs(uid: number, body: string, args: readonly string[] = []): Attacker {
  const child = Bun.spawn([findProgramForAll(), "-e", body, ...args], {
    uid,
    gid: uid,
    cwd: "/",
    env: { PATH: "/usr/bin:/bin", HOME: "/" },
    stdin: "ignore",
    stdout: "pipe",
    stderr: "inherit",
  });
  const text = new Response(child.stdout).text();
  return {
    exited: child.exited,
    output: async () => {
      await child.exited;
      return (await text).trim();
    },
    [Symbol.asyncDispose]: async () => {
      child.kill("SIGKILL");
      await child.exited;
    },
  };
}

/** Like {@link runAs}, but waits for the end and returns the output. */
export async function outputAs(uid: number, body: string, args: readonly string[] = []): Promise<string> {
  await using attacker = runAs(uid, body, args);
  return await attacker.output();
}

/**
 * Code for a program of {@link runAs}: becomes that user or group, in all ids or, with `saved`, only in the saved one.
 */
export function become(call: "setresuid" | "setresgid", id: number, saved = id): string {
  return `require("bun:ffi").dlopen("libc.so.6", { ${call}: { args: ["u32", "u32", "u32"], returns: "i32" } })
    .symbols.${call}(${id}, ${id}, ${saved});`;
}

/** Whether a FUSE file system can be mounted here. */
export const hasFuse =
  existsSync("/dev/fuse") && /\tfuse$/m.test(readFileSync("/proc/filesystems", "utf8")) && process.getuid?.() === 0;

/** Mounts a file system that nobody serves, as fusermount does for the owner. */
export function mountFuse(path: string): Disposable {
  const { symbols } = dlopen("libc.so.6", {
    mount: { args: [FFIType.ptr, FFIType.ptr, FFIType.ptr, FFIType.u64, FFIType.ptr], returns: FFIType.i32 },
  });
  const text = (value: string): Uint8Array => Buffer.from(`${value}\0`);
  const fd = openSync("/dev/fuse", "r+");
  const options = `fd=${fd},rootmode=40000,user_id=${OWNER},group_id=${OWNER},allow_other`;
  const [name, target, data] = [text("fuse"), text(path), text(options)];
  if (symbols.mount(ptr(name), ptr(target), ptr(name), 0n, ptr(data)) !== 0)
    throw new Error(`no FUSE mount on ${path}`);
  return {
    [Symbol.dispose]: () => {
      // Ends the waiting calls, and then the mount.
      closeSync(fd);
      run("umount", "--lazy", path);
    },
  };
}

/** The header of a 64-bit ELF file without a program header: it has no loader and no code. */
const STATIC_ELF = new Uint8Array(64);
STATIC_ELF.set([0x7f, 0x45, 0x4c, 0x46, 2, 1, 1]);
STATIC_ELF[54] = 56;

/** Makes root's programs where install.toml says. There is no systemd here, so starting them fails. */
export function plantPrograms(host: TestHost): string {
  const directory = host.context.install.firecracker?.directory ?? "";
  mkdirSync(directory, { mode: 0o755 });
  for (const name of ["firecracker", "jailer"]) {
    writeFileSync(join(directory, name), STATIC_ELF);
    chmodSync(join(directory, name), 0o755);
  }
  return directory;
}

/** Returns the code of the thrown error; `none` if nothing is thrown. */
export function codeOf(act: () => unknown): string {
  try {
    act();
    return "none";
  } catch (thrown) {
    return String((thrown as { code?: unknown }).code);
  }
}

/**
 * Lists mode, owner, links, size and change time of every file below a directory: everything an attack could change.
 */
export function fingerprint(directory: string): string {
  const names = [".", ...new Bun.Glob("**").scanSync({ cwd: directory, onlyFiles: false, dot: true })].toSorted();
  return names
    .map((name) => {
      const info = statSync(join(directory, name));
      return [name, info.mode.toString(8), info.uid, info.gid, info.nlink, info.size, info.ctimeMs].join(" ");
    })
    .join("\n");
}

/** Calls `act` until the time is up. Counts the successes and the errors. */
export async function race(
  act: () => void | Promise<void>,
): Promise<{ readonly done: number; readonly errors: ReadonlyMap<string, number> }> {
  const errors = new Map<string, number>();
  let done = 0;
  for (const end = Date.now() + RACE_MS; Date.now() < end;) {
    try {
      await act();
      done++;
    } catch (thrown) {
      const key = String((thrown as { code?: unknown }).code ?? thrown);
      errors.set(key, (errors.get(key) ?? 0) + 1);
    }
  }
  return { done, errors };
}

/** A tap held open as a VMM does. */
export interface GuestTap extends Disposable {
  /** Sends a frame as the guest. */
  send(frame: Uint8Array): void;
  /** Returns the frames for the guest that arrived since the last call. */
  receive(): readonly Uint8Array[];
}

/** `struct virtio_net_hdr`, in front of every frame. */
const VNET_HEADER_BYTES = 10;
const TUNSETIFF = 0x400454ca;

export function openGuestTap(name: string): GuestTap {
  const fd = openSync("/dev/net/tun", constants.O_RDWR | constants.O_NONBLOCK);
  const request = new Uint8Array(40);
  request.set(new TextEncoder().encode(name));
  new DataView(request.buffer).setUint16(16, 0x5002, true);
  check("ioctl", name, libc.ioctl(fd, BigInt(TUNSETIFF), addressOf(request)), errno());
  return {
    send: (frame) => {
      writeSync(fd, Buffer.concat([new Uint8Array(VNET_HEADER_BYTES), frame]));
    },
    receive: () => {
      const frames: Uint8Array[] = [];
      const buffer = new Uint8Array(70_000);
      for (;;) {
        try {
          const bytes = readSync(fd, buffer);
          frames.push(buffer.slice(VNET_HEADER_BYTES, bytes));
        } catch (thrown) {
          if (isErrno(thrown, "EAGAIN")) return frames;
          throw thrown;
        }
      }
    },
    [Symbol.dispose]: () => closeSync(fd),
  };
}

/** Removes every rule, table, policy rule and bridge in this namespace. */
export function clearNetwork(): void {
  for (const { name } of listInterfaces()) {
    // The other end of a pair is removed with the first.
    if (name !== "lo" && readInterface(name) !== null) ip("link", "delete", name);
  }
  run("/usr/sbin/nft", "flush", "ruleset");
  run("/usr/sbin/ebtables", "-F");
  for (const preference of Object.values(RULE_PREFERENCES)) {
    while (Bun.spawnSync(["/usr/sbin/ip", "rule", "delete", "pref", String(preference)]).exitCode === 0);
  }
}
