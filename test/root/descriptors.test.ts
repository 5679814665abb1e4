import { describe, expect, test } from "bun:test";
import {
  chmodSync,
  chownSync,
  constants,
  existsSync,
  linkSync,
  lstatSync,
  mkdirSync,
  readFileSync,
  renameSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { openOwnersFile, reopen } from "../../src/helper/files/owner-files.ts";
import { openRoot } from "../../src/helper/sys/descriptors.ts";
import { SystemCallError } from "../../src/helper/sys/libc.ts";
import {
  codeOf,
  fingerprint,
  hasFuse,
  makeHost,
  mountFuse,
  outputAs,
  OWNER,
  race,
  RACE_MS,
  run,
  runAs,
  STRANGER,
} from "./support.ts";

describe("opening below a directory", () => {
  test("refuses every way out and every link", () => {
    using fresh = makeHost();
    const base = fresh.ownersDirectory("vms/a");
    writeFileSync(join(base, "file"), "x");
    symlinkSync("file", join(base, "link"));
    symlinkSync(fresh.treasure, join(base, "away"));
    symlinkSync(".", join(base, "self"));
    symlinkSync("/proc/self/root", join(base, "magic"));
    using state = openRoot(fresh.context.paths.stateDir);
    using good = state.openPath("vms/a/file");
    expect(good.stat().kind).toBe("file");
    expect(codeOf(() => state.openPath("vms/a/link"))).toBe("ELOOP");
    expect(codeOf(() => state.openPath("vms/a/away/vmlinux"))).toBe("ELOOP");
    expect(codeOf(() => state.openPath("vms/a/self/file"))).toBe("ELOOP");
    expect(codeOf(() => state.openPath("vms/a/magic/etc/passwd"))).toBe("ELOOP");
    expect(codeOf(() => state.openPath("../treasure"))).toBe("EXDEV");
    expect(codeOf(() => state.openPath("vms/../../../etc"))).toBe("EXDEV");
    expect(codeOf(() => state.openPath("/etc/passwd"))).toBe("EXDEV");
    expect(codeOf(() => state.openPath("nothing"))).toBe("ENOENT");
    expect(() => state.openPath("a\0b")).toThrow("NUL");
  });

  test("names the call and its operands in the error", () => {
    using fresh = makeHost();
    using state = openRoot(fresh.context.paths.stateDir);
    expect(() => state.openPath("vms/none")).toThrow(/^openat2\(.*owner\/vms\/none\): ENOENT$/);
    expect(() => state.makeDirectory("x/y", 0o700)).toThrow(/^mkdirat\(.*x\/y\): ENOENT$/);
  });

  test("errno stays right while memory is collected", () => {
    using fresh = makeHost();
    using state = openRoot(fresh.context.paths.stateDir);
    for (let round = 0; round < 2000; round++) {
      if (round % 100 === 0) Bun.gc(true);
      expect(codeOf(() => state.openPath(round % 2 === 0 ? "none" : "../x"))).toBe(
        round % 2 === 0 ? "ENOENT" : "EXDEV",
      );
    }
  });
});

/** Takes a write lease on a file of the user's and never gives it back, ignoring the signal that asks for it. */
const HOLD_LEASE = `const { dlopen, FFIType: { i32 } } = require("bun:ffi");
  const { symbols: { fcntl } } = dlopen("libc.so.6", { fcntl: { args: [i32, i32, i32], returns: i32 } });
  const fd = require("node:fs").openSync(process.argv[1], "r+");
  const [F_SETSIG, F_SETLEASE, F_WRLCK, SIGWINCH] = [10, 1024, 1, 28];
  if (fcntl(fd, F_SETSIG, SIGWINCH) !== 0 || fcntl(fd, F_SETLEASE, F_WRLCK) !== 0) throw new Error("no lease");
  require("node:fs").writeFileSync(process.argv[2], "");
  setInterval(() => undefined, 1000);`;

describe("an open that the owner could delay", () => {
  test("fails at once: a file under a lease, a FIFO without a writer", async () => {
    using host = makeHost();
    const file = host.ownersFile("vms/a/file");
    const mark = join(host.ownersDirectory("vms/a"), "held");
    await using holder = runAs(OWNER, HOLD_LEASE, [file, mark]);
    while (!existsSync(mark)) await Promise.race([Bun.sleep(20), holder.exited.then(() => expect().fail("no lease"))]);
    // After 45 s the kernel would have broken the lease, and these calls would have succeeded.
    using state = openRoot(host.context.paths.stateDir);
    expect(codeOf(() => state.open("vms/a/file", constants.O_RDONLY))).toMatch(/^(?:EAGAIN|EWOULDBLOCK)$/);
    using checked = openOwnersFile(host.context, "vms/a/file", "FAILED", { onlyName: true });
    expect(codeOf(() => reopen(checked, constants.O_RDONLY))).toBe("IN_USE");

    expect(Bun.spawnSync(["mkfifo", join(host.ownersDirectory("vms/a"), "fifo")]).exitCode).toBe(0);
    using fifo = state.open("vms/a/fifo", constants.O_RDONLY);
    expect(fifo.stat().kind).toBe("other");
  });
});

describe("acting on a descriptor", () => {
  test("changes the opened file, even if its name now belongs to another file", () => {
    using host = makeHost();
    const file = host.ownersFile("vms/a/file");
    using state = openRoot(host.context.paths.stateDir);
    using opened = state.openPath("vms/a/file");
    renameSync(file, `${file}.old`);
    symlinkSync(join(host.treasure, "vmlinux"), file);
    const before = fingerprint(host.treasure);
    opened.chown(5, 6);
    opened.chmod(0o640);
    opened.setAttribute("user.banger", new Uint8Array([1]));
    expect(statSync(`${file}.old`)).toMatchObject({ uid: 5, gid: 6, mode: 0o100640 });
    expect(fingerprint(host.treasure)).toBe(before);
    using readable = reopen(opened, constants.O_RDONLY);
    expect(readFileSync(readable.fd, "utf8")).toBe("the owner's");
  });

  test("makes and removes entries in that directory only, and never opens an existing file as a new one", () => {
    using host = makeHost();
    const directory = host.ownersDirectory("vms/a");
    host.ownersFile("vms/a/file");
    using opened = openRoot(directory);
    using made = opened.makeFile("made");
    expect(made.stat()).toMatchObject({ kind: "file", mode: 0o600, uid: 0, bytes: 0 });
    for (const name of ["made", "file"]) expect(codeOf(() => opened.makeFile(name))).toBe("EEXIST");
    opened.makeBlockNode("node", 253, 300_001);
    using node = opened.openPath("node");
    expect(node.stat()).toMatchObject({ kind: "block", mode: 0o600, uid: 0 });
    const { rdev } = lstatSync(join(directory, "node"), { bigint: true });
    const major = ((rdev >> 8n) & 0xfffn) | ((rdev >> 32n) & ~0xfffn);
    const minor = (rdev & 0xffn) | ((rdev >> 12n) & ~0xffn);
    expect([major, minor]).toEqual([253n, 300_001n]);
    symlinkSync(join(host.treasure, "vmlinux"), join(directory, "link"));
    expect(codeOf(() => opened.makeFile("link"))).toBe("EEXIST");
    const before = fingerprint(host.treasure);
    for (const name of ["node", "made", "link"]) opened.unlink(name);
    expect(opened.names()).toEqual(["file"]);
    expect(fingerprint(host.treasure)).toBe(before);
    expect(() => opened.removeDirectory("file")).toThrow(SystemCallError);
  });
});

describe("the owner's files", () => {
  test.each([
    ["a link to root's file", (at: string, treasure: string) => symlinkSync(join(treasure, "work.ext4"), at)],
    ["a hard link of root's file", (at: string, treasure: string) => linkSync(join(treasure, "work.ext4"), at)],
    ["a directory", (at: string) => mkdirSync(at)],
    ["a FIFO", (at: string) => expect(Bun.spawnSync(["mkfifo", at]).exitCode).toBe(0)],
    ["a host disk's node", (at: string) => expect(Bun.spawnSync(["mknod", at, "b", "8", "0"]).exitCode).toBe(0)],
    [
      "another user's file",
      (at: string) => {
        writeFileSync(at, "x");
        chownSync(at, STRANGER, STRANGER);
      },
    ],
    [
      "a second name of another VM's disk",
      (at: string) => {
        writeFileSync(`${at}.other`, "x");
        chownSync(`${at}.other`, OWNER, OWNER);
        linkSync(`${at}.other`, at);
      },
    ],
  ])("%s is refused as a disk", (_, plant) => {
    using host = makeHost();
    plant(join(host.ownersDirectory("vms/a"), "work.ext4"), host.treasure);
    const before = fingerprint(host.treasure);
    const open = (): unknown => openOwnersFile(host.context, "vms/a/work.ext4", "VM_NOT_FOUND", { onlyName: true });
    expect(codeOf(open)).toBe("HELPER_REFUSED");
    expect(fingerprint(host.treasure)).toBe(before);
  });

  test("a link anywhere on the way is refused", () => {
    using host = makeHost();
    host.ownersDirectory("vms");
    symlinkSync(host.treasure, join(host.context.paths.vmsDir, "a"));
    const open = (): unknown => openOwnersFile(host.context, "vms/a/work.ext4", "VM_NOT_FOUND", { onlyName: true });
    expect(codeOf(open)).toBe("HELPER_REFUSED");
  });

  test("a lease that the owner holds delays nothing", async () => {
    using host = makeHost();
    const path = host.ownersFile("vms/a/work.ext4");
    // F_SETLEASE, F_WRLCK: without O_NONBLOCK an open would wait for the time in /proc/sys/fs/lease-break-time.
    await using holder = runAs(
      OWNER,
      `const fs = require("node:fs"), { dlopen } = require("bun:ffi");
       const { fcntl } = dlopen("libc.so.6", { fcntl: { args: ["i32", "i32", "i32"], returns: "i32" } }).symbols;
       process.on("SIGIO", () => {});
       const fd = fs.openSync(process.argv[1], "r+");
       if (fcntl(fd, 1024, 1) !== 0) throw new Error("no lease");
       fs.writeFileSync(process.argv[1] + ".held", "");
       setInterval(() => {}, 1000);`,
      [path],
    );
    while (!existsSync(`${path}.held`)) await Bun.sleep(5);
    using file = openOwnersFile(host.context, "vms/a/work.ext4", "VM_NOT_FOUND", { onlyName: true });
    for (const flags of [constants.O_RDONLY, constants.O_RDWR]) {
      expect(() => reopen(file, flags)).toThrow(/another process has a lease on .*vms\/a\/work\.ext4$/);
      expect(codeOf(() => reopen(file, flags))).toBe("IN_USE");
    }
    file.setAttribute("user.banger", new Uint8Array([1]));
    file.chmod(0o640);
    expect(file.stat().mode).toBe(0o640);
    void holder;
  });

  test.skipIf(!hasFuse)(
    `a file system that the owner mounted is never asked anything, wherever it is${hasFuse ? "" : " (skipped: this kernel has no FUSE)"}`,
    () => {
      for (const at of ["vms/a", "vms", ""]) {
        using host = makeHost();
        host.ownersFile("vms/a/work.ext4");
        // Nobody ever answers it: every lookup in it waits forever.
        using _mount = mountFuse(join(host.context.paths.stateDir, at));
        const open = (): unknown => openOwnersFile(host.context, "vms/a/work.ext4", "VM_NOT_FOUND", { onlyName: true });
        expect(open).toThrow("is a fuse mount");
        expect(codeOf(open)).toBe("HELPER_REFUSED");
      }
    },
  );

  test.each(["", "vms", "vms/a"])("a disk that root mounted for more room, on %j, works like a directory", (at) => {
    using host = makeHost();
    const disk = join(host.ownersDirectory("vms/a"), "work.ext4");
    const where = join(host.context.paths.stateDir, at);
    run("mount", "-t", "tmpfs", "-o", `mode=700,uid=${OWNER},gid=${OWNER}`, "disk", where);
    using _mount = { [Symbol.dispose]: () => void run("umount", where) };
    host.ownersFile("vms/a/work.ext4", "on it");
    using file = openOwnersFile(host.context, "vms/a/work.ext4", "VM_NOT_FOUND", { onlyName: true });
    using readable = reopen(file, constants.O_RDONLY);
    expect(readFileSync(readable.fd, "utf8")).toBe("on it");
    expect(existsSync(disk)).toBe(true);
  });

  test("a state directory that isn't the owner's is refused", () => {
    using host = makeHost();
    host.ownersFile("vms/a/work.ext4");
    chownSync(host.context.paths.stateDir, 0, 0);
    const open = (): unknown => openOwnersFile(host.context, "vms/a/work.ext4", "VM_NOT_FOUND", { onlyName: true });
    expect(codeOf(open)).toBe("HELPER_REFUSED");
    chmodSync(host.context.paths.stateDir, 0o700);
  });

  test(
    "names exchanged in a loop never lead to root's file",
    async () => {
      using host = makeHost();
      host.ownersFile("vms/a/work.ext4");
      const vms = host.context.paths.vmsDir;
      // What an owner could place: root's file under a name the owner may move, links, and valid files.
      linkSync(join(host.treasure, "work.ext4"), join(vms, "hard"));
      const before = fingerprint(host.treasure);
      await using _attacker = runAs(
        OWNER,
        `const fs = require("node:fs");
         const [vms, treasure] = process.argv.slice(1);
         const a = vms + "/a", disk = a + "/work.ext4";
         const quietly = (f) => { try { f(); } catch {} };
         fs.mkdirSync(vms + "/good"); fs.writeFileSync(vms + "/good/work.ext4", "x");
         for (;;) {
           quietly(() => fs.renameSync(disk, vms + "/kept"));
           quietly(() => fs.symlinkSync(treasure + "/work.ext4", disk));
           quietly(() => fs.unlinkSync(disk));
           quietly(() => fs.renameSync(vms + "/hard", disk));
           quietly(() => fs.renameSync(disk, vms + "/hard"));
           quietly(() => fs.renameSync(vms + "/kept", disk));
           quietly(() => fs.renameSync(a, vms + "/moved"));
           quietly(() => fs.symlinkSync(treasure, a));
           quietly(() => fs.unlinkSync(a));
           quietly(() => fs.renameSync(vms + "/moved", a));
         }`,
        [vms, host.treasure],
      );
      const { done, errors } = await race(() => {
        using file = openOwnersFile(host.context, "vms/a/work.ext4", "VM_NOT_FOUND", { onlyName: true });
        using readable = reopen(file, constants.O_RDONLY);
        expect(readFileSync(readable.fd, "utf8")).not.toContain("root");
        expect(readable.stat().uid).toBe(OWNER);
      });
      // The race was real: valid opens, missing names and refusals all happened.
      expect(done).toBeGreaterThan(0);
      expect(errors.get("HELPER_REFUSED") ?? 0).toBeGreaterThan(0);
      expect(
        [...errors.keys()].filter((code) => !["HELPER_REFUSED", "VM_NOT_FOUND", "EAGAIN", "ENOENT"].includes(code)),
      ).toEqual([]);
      expect(fingerprint(host.treasure).replaceAll(/ \d+(\.\d+)?$/gm, "")).toBe(
        before.replaceAll(/ \d+(\.\d+)?$/gm, ""),
      );
    },
    RACE_MS + 20_000,
  );
});

test("another user reads nothing below root's directories", async () => {
  using host = makeHost();
  const { slotsDir, jailDir, cowDir, stateDir } = host.context.paths;
  const listed = await outputAs(
    STRANGER,
    `const fs = require("node:fs");
     for (const path of process.argv.slice(1)) { try { fs.readdirSync(path); console.log(path); } catch (e) { console.log(e.code); } }`,
    [slotsDir, jailDir, cowDir, stateDir],
  );
  expect(listed.split("\n")).toEqual(["EACCES", "EACCES", "EACCES", "EACCES"]);
});
