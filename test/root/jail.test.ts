import { describe, expect, test } from "bun:test";
import { HELPER_VERSION } from "../../src/shared/contract/helper-api.ts";
import {
  chmodSync,
  chownSync,
  copyFileSync,
  existsSync,
  linkSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { JAIL, type HelperParsedInputOf } from "../../src/shared/contract/helper-api.ts";
import { openJailFile } from "../../src/shared/jail.ts";
import { createDispatch } from "../../src/helper/dispatch.ts";
import {
  jailPath,
  jailRoot,
  listJails,
  listJailMounts,
  makeJail,
  mountRoot,
  removeJail,
  type StagedRoot,
} from "../../src/helper/jail/jail.ts";
import { launch, makeDiskNode, stage } from "../../src/helper/jail/launch.ts";
import { listSlots, releaseSlot, takeSlot } from "../../src/helper/jail/slots.ts";
import {
  become,
  codeOf,
  fingerprint,
  makeHost,
  outputAs,
  OWNER,
  plantPrograms,
  race,
  RACE_MS,
  run,
  runAs,
  STRANGER,
  type TestHost,
  uidOf,
  VM,
} from "./support.ts";

/** Tests what a user may do in a jail: enter, list, and use `io`. Returns one word per attempt. */
const PROBE = `const fs = require("node:fs");
  const root = process.argv[1];
  const may = (name, f) => { try { f(); return name; } catch { return null; } };
  const net = require("node:net");
  const connect = (path) => new Promise((ok) => {
    const s = net.connect(path, () => { s.destroy(); ok("connect"); });
    s.on("error", () => ok(null));
  });
  const done = [
    may("list", () => fs.readdirSync(root)),
    may("make", () => { fs.writeFileSync(root + "/x", ""); fs.unlinkSync(root + "/x"); }),
    may("list-io", () => fs.readdirSync(root + "/io")),
    may("make-io", () => { fs.writeFileSync(root + "/io/y", ""); fs.unlinkSync(root + "/io/y"); }),
    may("read-log", () => fs.readFileSync(root + "/io/serial.log")),
    may("kernel", () => fs.readFileSync(root + "/kernel")),
    may("disk", () => fs.closeSync(fs.openSync(root + "/work-drive", "r+"))),
    await connect(root + "/io/api.sock"),
  ];
  console.log(done.filter(Boolean).join(" "));`;

/** Does what Firecracker does in its jail, as its uid: makes a socket and a log, with the umask the helper sets. */
const SERVE = `const fs = require("node:fs"), net = require("node:net");
  process.umask(0o007);
  process.chdir(process.argv[1] + "/io");
  fs.writeFileSync("serial.log", "console");
  net.createServer((s) => s.end()).listen("api.sock", () => console.log("up"));`;

const input = {
  vm: VM,
  kernel: "k",
  initrd: true,
  root: "file",
  tap: null,
  vcpu: 1,
  memory_mib: 128,
} as HelperParsedInputOf<"priv.launch_firecracker">;

function plantFiles(host: TestHost): void {
  host.ownersFile("kernels/k/vmlinux", "kernel");
  host.ownersFile("kernels/k/initrd.img", "initrd");
  host.ownersFile(`vms/${VM}/work.ext4`, "disk");
  host.ownersFile(`vms/${VM}/root.ext4`, "root disk");
  host.ownersFile(`vms/${VM}/identity.img`, "identity");
}

const PROGRAM_BYTES = 8 * 1024 * 1024;
/** A device that isn't there: a real one needs device mapper. */
const NO_DEVICE = { major: 253, minor: 300_001 };

/** Makes a jail as it is when the jailer starts, with the root as the jailer leaves it: 0700, the VM's. */
async function stageJail(host: TestHost): Promise<{ readonly uid: number; readonly path: string } & StagedRoot> {
  plantFiles(host);
  const slot = takeSlot(host.context, VM);
  using io = makeJail(host.context, VM, slot.uid);
  const staged = mountRoot(host.context, VM, io, PROGRAM_BYTES);
  await stage(host.context, input, slot, staged.root);
  staged.root.chown(slot.uid, slot.uid);
  return {
    uid: slot.uid,
    path: jailRoot(host.context, VM),
    root: staged.root,
    [Symbol.dispose]: () => staged[Symbol.dispose](),
  };
}

describe("a staged jail", () => {
  test("belongs to the VM inside, is shared with the owner in io, and is closed to everyone else", async () => {
    using host = makeHost();
    const other = takeSlot(host.context, "ffffffffffff");
    const inside = "list make list-io make-io read-log kernel disk";
    const { path, uid, server } = await (async () => {
      using staged = await stageJail(host);
      expect(await outputAs(staged.uid, PROBE, [staged.path])).toBe(inside);
      for (const uid of [OWNER, STRANGER, other.uid]) expect(await outputAs(uid, PROBE, [staged.path])).toBe("");
      const server = runAs(staged.uid, SERVE, [staged.path]);
      while (!existsSync(join(staged.path, "io/api.sock"))) await Bun.sleep(5);
      return { ...staged, server };
    })();
    await using _server = server;

    // What the host sees while a process that has the mounts is still running.
    expect(readdirSync(path)).toEqual(["io"]);
    expect(await outputAs(OWNER, PROBE, [path])).toBe("list-io make-io read-log connect");
    for (const stranger of [uid, STRANGER, other.uid]) expect(await outputAs(stranger, PROBE, [path])).toBe("");

    // The files belong to the owner and have one name.
    expect(statSync(join(host.context.paths.vmsDir, VM, "work.ext4"))).toMatchObject({ uid: OWNER, nlink: 1 });
    await removeJail(host.context, VM);
    expect(listJails(host.context)).toEqual([]);
    expect(listJailMounts(host.context)).toEqual([]);
    expect(readFileSync(join(host.context.paths.kernelsDir, "k/vmlinux"), "utf8")).toBe("kernel");
  });

  test("never shows a looser mode while it is made, watched in a tight loop", async () => {
    using host = makeHost();
    const path = jailRoot(host.context, VM);
    await using watcher = runAs(
      STRANGER,
      `const fs = require("node:fs");
       const root = process.argv[1];
       const seen = new Set();
       const end = Date.now() + 2000;
       while (Date.now() < end) {
         // root's parent is 0711: another user sees root's mode, and must see nothing below.
         try { seen.add("root " + (fs.lstatSync(root).mode & 0o7).toString(8)); } catch {}
         for (const name of ["io", "kernel", "work-drive", "io/api.sock"]) {
           try { fs.lstatSync(root + "/" + name); seen.add(name); } catch {}
         }
       }
       console.log([...seen].sort().join(" "));`,
      [path],
    );
    let running = true;
    void watcher.exited.then(() => (running = false));
    let rounds = 0;
    while (running) {
      (await stageJail(host))[Symbol.dispose]();
      await removeJail(host.context, VM);
      rounds++;
      await Bun.sleep(0);
    }
    expect(rounds).toBeGreaterThan(10);
    expect(await watcher.output()).toBe("root 0");
  }, 20_000);

  test("has its log files from the start, so nobody can plant others in their place", async () => {
    using host = makeHost();
    using staged = await stageJail(host);
    for (const path of [JAIL.serialLog, JAIL.vmmLog, JAIL.metrics]) {
      expect(statSync(`${staged.path}${path}`)).toMatchObject({ uid: staged.uid, nlink: 1, mode: 0o100660, size: 0 });
      using _readable = openJailFile(staged.path, path);
      using _writable = openJailFile(staged.path, path, "write");
    }
    expect(statSync(`${staged.path}/io`)).toMatchObject({ uid: 0, gid: staged.uid });
  });

  test("is not made on a file system that honours set-uid files", async () => {
    using host = makeHost();
    plantFiles(host);
    run("mount", "-o", "remount,bind,suid,nodev,noexec", host.context.paths.jailDir);
    expect(codeOf(() => makeJail(host.context, VM, uidOf(host)))).toBe("HELPER_REFUSED");
    run("mount", "-o", "remount,bind,nosuid,dev,noexec", host.context.paths.jailDir);
    expect(() => makeJail(host.context, VM, uidOf(host))).toThrow(
      "is not mounted nodev; to mount it: sudo banger system install",
    );
    expect(listJails(host.context)).toEqual([]);
  });
});

describe("a VMM that broke out of Firecracker, in its jail", () => {
  /** Tries each of these as the VM's uid, where the jail's mounts are visible. Returns the errors. */
  const attempts = `const fs = require("node:fs");
    const root = process.argv[1];
    const say = (what, act) => { try { act(); console.log(what, "done"); } catch (error) { console.log(what, error.code); } };`;

  test("can't link its node, its program or the kernel to a place that the host sees", async () => {
    using host = makeHost();
    using staged = await stageJail(host);
    makeDiskNode(staged.root, "node", NO_DEVICE, staged.uid);
    const said = await outputAs(
      staged.uid,
      `${attempts}
       fs.writeFileSync(root + "/program", "x");
       for (const name of ["node", "program", "kernel", "work-drive"]) {
         say("link " + name, () => fs.linkSync(root + "/" + name, root + "/io/" + name));
         say("move " + name, () => fs.renameSync(root + "/" + name, root + "/io/" + name));
       }
       say("open node", () => fs.chmodSync(root + "/node", 0o666));`,
      [staged.path],
    );
    expect(said.split("\n")).toEqual([
      ...["link node EXDEV", "move node EXDEV", "link program EXDEV", "move program EXDEV"],
      ...[
        "link kernel EXDEV",
        "move kernel EXDEV",
        "link work-drive EXDEV",
        "move work-drive EXDEV",
        "open node EPERM",
      ],
    ]);
    expect(readdirSync(join(staged.path, "io")).toSorted()).toEqual(["firecracker.log", "metrics", "serial.log"]);
  });

  test("can't make the daemon truncate the kernel, or anything but its own log", async () => {
    using host = makeHost();
    using staged = await stageJail(host);
    const kernel = join(host.context.paths.kernelsDir, "k/vmlinux");
    const said = await outputAs(
      staged.uid,
      `${attempts}
       say("rename", () => fs.renameSync(root + "/kernel", root + "/io/serial.log"));
       say("write", () => fs.appendFileSync(root + "/kernel", "x"));
       say("cut", () => fs.truncateSync(root + "/kernel", 0));
       say("mode", () => fs.chmodSync(root + "/kernel", 0o666));
       // A second name of one log, in place of another.
       fs.unlinkSync(root + "/io/metrics"); fs.linkSync(root + "/io/firecracker.log", root + "/io/metrics");
       fs.unlinkSync(root + "/io/serial.log"); fs.mkdirSync(root + "/io/serial.log");`,
      [staged.path],
    );
    expect(said.split("\n")).toEqual(["rename EXDEV", "write EACCES", "cut EACCES", "mode EROFS"]);
    for (const access of ["read", "write"] as const) {
      for (const path of [JAIL.metrics, JAIL.vmmLog, JAIL.serialLog])
        expect(codeOf(() => openJailFile(staged.path, path, access))).toMatch(/^(?:UNSAFE_DIRECTORY|EISDIR)$/);
    }
    // A file of the owner's or of root's, whoever put it there.
    for (const uid of [OWNER, 0, staged.uid + 1]) {
      rmSync(join(staged.path, "io/serial.log"), { recursive: true, force: true });
      writeFileSync(join(staged.path, "io/serial.log"), "precious");
      chownSync(join(staged.path, "io/serial.log"), uid, uid);
      for (const access of ["read", "write"] as const)
        expect(codeOf(() => openJailFile(staged.path, JAIL.serialLog, access))).toBe("UNSAFE_DIRECTORY");
    }
    expect(readFileSync(kernel, "utf8")).toBe("kernel");
    expect(statSync(kernel)).toMatchObject({ nlink: 1, uid: OWNER });
  });

  test("leaves no set-uid file that gives an accomplice its uid", async () => {
    using host = makeHost();
    const { path, uid } = await (async () => {
      using staged = await stageJail(host);
      const said = await outputAs(
        staged.uid,
        `${attempts}
         say("copy", () => fs.copyFileSync("/usr/bin/id", root + "/io/id"));
         say("set-uid", () => fs.chmodSync(root + "/io/id", 0o6777));
         // Without its access list, everyone could use the file.
         say("open", () => fs.chmodSync(root + "/io", 0o777));`,
        [staged.path],
      );
      expect(said.split("\n")).toEqual(["copy done", "set-uid done", "open EPERM"]);
      return staged;
    })();
    expect(statSync(join(path, "io/id"))).toMatchObject({ uid, mode: 0o106777 });
    const execute = `const { spawnSync } = require("node:child_process");
      const { error, stdout } = spawnSync(process.argv[1], ["-u"]);
      console.log(error?.code ?? String(stdout).trim());`;
    // The owner, who may enter io, is the only accomplice that can even find it.
    expect(await outputAs(OWNER, execute, [join(path, "io/id")])).toBe("EACCES");
    expect(["EACCES", "ENOENT"]).toContain(await outputAs(STRANGER, execute, [join(path, "io/id")]));
    await removeJail(host.context, VM);
  });

  test("can't hand its node to a process that outlives it", async () => {
    using host = makeHost();
    using staged = await stageJail(host);
    makeDiskNode(staged.root, "node", NO_DEVICE, staged.uid);
    await outputAs(staged.uid, `${attempts} say("x", () => fs.chmodSync(root, 0o777));`, [staged.path]);
    // A descriptor of the root, as passed over a socket, in another user's hands.
    const said = await outputAs(
      0,
      `${attempts}
       const fd = fs.openSync(root, 0o10000000);
       ${become("setresgid", STRANGER)} ${become("setresuid", STRANGER)}
       say("enter", () => fs.readdirSync("/proc/self/fd/" + fd));
       say("read", () => fs.openSync("/proc/self/fd/" + fd + "/node", "r"));
       say("write", () => fs.openSync("/proc/self/fd/" + fd + "/node", "r+"));`,
      [staged.path],
    );
    expect(said.split("\n")).toEqual(["enter done", "read EACCES", "write EACCES"]);
  });
});

/** Stages the current files. Returns `staged` or the error's code. */
async function stageAgain(host: TestHost): Promise<string> {
  const slot = takeSlot(host.context, VM);
  using io = makeJail(host.context, VM, slot.uid);
  using staged = mountRoot(host.context, VM, io, PROGRAM_BYTES);
  return await stage(host.context, input, slot, staged.root).then(
    () => "staged",
    (thrown: { code?: string }) => thrown.code ?? String(thrown),
  );
}

describe("a planted file", () => {
  test.each([
    ["a kernel that links to root's file", "kernels/k/vmlinux", "vmlinux"],
    ["a work disk that links to root's file", `vms/${VM}/work.ext4`, "work.ext4"],
    ["an identity disk that links to root's file", `vms/${VM}/identity.img`, "work.ext4"],
    ["a root disk that links to root's file", `vms/${VM}/root.ext4`, "rootfs.ext4"],
  ])("%s: the launch is refused, for hard and symbolic links", async (_, path, target) => {
    for (const plant of [symlinkSync, linkSync]) {
      using host = makeHost();
      plantFiles(host);
      const victim = join(host.treasure, target);
      Bun.spawnSync(["rm", join(host.context.paths.stateDir, path)]);
      plant(victim, join(host.context.paths.stateDir, path));
      const before = fingerprint(host.treasure);
      const outcome = await stageAgain(host);
      expect(outcome).toBe("HELPER_REFUSED");
      expect(fingerprint(host.treasure)).toBe(before);
    }
  });
});

describe("a launch that fails", () => {
  const attempt = async (host: TestHost): Promise<string> =>
    await launch(host.context, input).then(
      () => "launched",
      (thrown: { code?: string }) => thrown.code ?? String(thrown),
    );

  test("leaves no jail, and no second link to the disk", async () => {
    using host = makeHost();
    plantFiles(host);
    plantPrograms(host);
    // A machine without systemd may lack the program as well.
    expect(["VMM_FAILED", "TOOL_MISSING"]).toContain(await attempt(host));
    expect(listJails(host.context)).toEqual([]);
    expect(statSync(join(host.context.paths.vmsDir, VM, "work.ext4")).nlink).toBe(1);
    expect(listSlots(host.context).map(({ vm }) => vm)).toEqual([VM]);
  });

  test.each([
    ["the owner's program", (at: string) => chownSync(join(at, "firecracker"), OWNER, OWNER)],
    ["a program the owner's group may write", (at: string) => chmodSync(join(at, "jailer"), 0o775)],
    ["a set-uid program", (at: string) => chmodSync(join(at, "jailer"), 0o4755)],
    ["a directory others may write", (at: string) => chmodSync(at, 0o777)],
    ["a parent others may write", (at: string) => chmodSync(join(at, ".."), 0o1777)],
    ["a directory that the owner owns", (at: string) => chownSync(at, OWNER, OWNER)],
    ["a program with a second hard link", (at: string) => linkSync(join(at, "jailer"), join(at, "other"))],
    ["a program that loads libraries", (at: string) => copyFileSync("/bin/true", join(at, "firecracker"))],
    ["a script", (at: string) => writeFileSync(join(at, "firecracker"), "#!/bin/false\n")],
  ])("%s is never run", async (_, spoil) => {
    using host = makeHost();
    plantFiles(host);
    spoil(plantPrograms(host));
    expect(await attempt(host)).toBe("HELPER_REFUSED");
    expect(listJails(host.context)).toEqual([]);
  });

  test("a link in the programs' path is refused", async () => {
    using host = makeHost();
    plantFiles(host);
    const directory = plantPrograms(host);
    Bun.spawnSync(["mv", directory, `${directory}-real`]);
    symlinkSync(`${directory}-real`, directory);
    expect(await attempt(host)).toBe("HELPER_REFUSED");
  });
});

describe("slots", () => {
  test("a VM keeps its uid, and no two have the same", () => {
    using host = makeHost();
    const vms = Array.from({ length: 50 }, (_, index) => index.toString(16).padStart(12, "0"));
    const uids = vms.map((vm) => takeSlot(host.context, vm).uid);
    expect(new Set(uids).size).toBe(50);
    expect(vms.map((vm) => takeSlot(host.context, vm).uid)).toEqual(uids);
    expect(() => takeSlot(host.context, VM)).toThrow(/all 50 user ids/);
    releaseSlot(host.context, takeSlot(host.context, vms[7] ?? ""));
    expect(takeSlot(host.context, VM).uid).toBe(uids[7] ?? -1);
  });

  test("a released uid is reused only after all others", () => {
    using host = makeHost();
    const uids = Array.from({ length: 120 }, () => {
      const slot = takeSlot(host.context, VM);
      releaseSlot(host.context, slot);
      return slot.uid;
    });
    expect(new Set(uids.slice(0, 50)).size).toBe(50);
    expect(uids.slice(50, 100)).toEqual(uids.slice(0, 50));
    expect(listSlots(host.context)).toEqual([]);
  });
});

describe("removing a jail", () => {
  function jailOf(host: TestHost): { readonly path: string; readonly uid: number } {
    const uid = uidOf(host);
    makeJail(host.context, VM, uid)[Symbol.dispose]();
    return { path: jailRoot(host.context, VM), uid };
  }

  test("unmounts what is mounted below, and follows no link", async () => {
    using host = makeHost();
    const { path, uid } = jailOf(host);
    for (const at of ["io/a", "io/a/b", "usr"]) {
      mkdirSync(join(path, at), { recursive: true });
      chownSync(join(path, at), uid, uid);
      expect(Bun.spawnSync(["mount", "-t", "tmpfs", "tmpfs", join(path, at)]).exitCode).toBe(0);
    }
    writeFileSync(join(path, "io/a/b/file"), "x");
    // On a file, and on a name that isn't valid text.
    writeFileSync(join(path, "io/on-file"), "");
    expect(Bun.spawnSync(["mount", "--bind", join(host.treasure, "vmlinux"), join(path, "io/on-file")]).exitCode).toBe(
      0,
    );
    run("sh", "-c", `cd "$1"; d=$(printf 'm\\377'); mkdir "$d"; mount -t tmpfs tmpfs "$d"`, "sh", join(path, "io"));
    symlinkSync(host.treasure, join(path, "io/link"));
    symlinkSync(host.treasure, join(path, "treasure"));
    const before = fingerprint(host.treasure);
    expect(listJailMounts(host.context)).toHaveLength(5);
    await removeJail(host.context, VM);
    expect(listJailMounts(host.context)).toEqual([]);
    expect(existsSync(jailPath(host.context, VM))).toBe(false);
    expect(fingerprint(host.treasure)).toBe(before);
  });

  test("does not enter a directory of any other user, however deep", async () => {
    for (const inside of ["", "a/b/c"]) {
      using host = makeHost();
      const { path } = jailOf(host);
      // The owner may move its own directory, with root's files inside, into io: root must not delete them.
      const bait = join(path, "io", inside, "bait");
      mkdirSync(join(bait, "roots"), { recursive: true });
      if (inside !== "") run("chown", "-R", `${OWNER}`, join(path, "io/a"));
      chownSync(bait, OWNER, OWNER);
      chownSync(join(bait, "roots"), 0, 0);
      writeFileSync(join(bait, "roots/precious"), "root's");
      const refusal = await removeJail(host.context, VM).then(
        () => null,
        (thrown: Error) => thrown.message,
      );
      expect(refusal).toMatch(/belongs to neither/);
      const found = run("find", jailPath(host.context, VM), "-name", "precious").trim();
      expect(readFileSync(found, "utf8")).toBe("root's");
      // It stays closed, and the next call is refused too.
      expect(lstatSync(jailPath(host.context, VM)).mode & 0o777).toBe(0o700);
      expect((await removeJail(host.context, VM).catch((thrown: Error) => thrown))?.message).toMatch(
        /belongs to neither/,
      );
    }
  });

  test("handles any name and any depth that a VMM can make, and continues after an interruption", async () => {
    using host = makeHost();
    const { path, uid } = jailOf(host);
    const fill = `
      import os
      os.chdir(os.fsencode(os.environ["AT"]))
      for name in [b"\\xff\\xfe", b"...", b"..x", b".x", b" ", b"\\n", b"-rf", b"a" * 255, b"moved-from-roots-1", b"moved-from-others-1"]:
          open(name, "w").close()
          os.makedirs(b"in/" + name + b"/" + name)
          open(b"in/" + name + b"/" + name + b"/f", "w").close()
      for depth in range(3000):
          os.mkdir(b"\\xfedeep"); open(b"file", "w").close(); os.chdir(b"\\xfedeep")
    `.replaceAll(/^ {6}/gm, "");
    expect(
      Bun.spawnSync(["python3", "-c", fill], {
        env: { AT: join(path, "io"), PATH: process.env["PATH"] ?? "" },
      }).stderr.toString(),
    ).toBe("");
    run("chown", "-R", "-h", `${uid}:${uid}`, join(path, "io"));
    // Left by an earlier call that stopped midway.
    mkdirSync(join(jailPath(host.context, VM), "moved-from-others-1/x"), { recursive: true });
    run("chown", "-R", `${uid}`, join(jailPath(host.context, VM), "moved-from-others-1"));
    await removeJail(host.context, VM);
    expect(listJails(host.context)).toEqual([]);
  }, 60_000);

  test("of a hundred thousand files doesn't delay other requests", async () => {
    using host = makeHost();
    const { path, uid } = jailOf(host);
    const fill = "import os\nos.chdir(os.environ['AT'])\nfor n in range(100000): os.close(os.open(str(n), os.O_CREAT))";
    Bun.spawnSync(["python3", "-c", fill], { env: { AT: join(path, "io"), PATH: process.env["PATH"] ?? "" } });
    expect(readdirSync(join(path, "io")).length).toBeGreaterThanOrEqual(100_000);
    chownSync(join(path, "io"), 0, uid);
    const dispatch = createDispatch(host.context);
    let isOver = false;
    const removal = dispatch({
      v: HELPER_VERSION,
      method: "priv.cleanup_jailer_chroot",
      params: { vm: VM },
      op: null,
    }).then((outcome) => {
      isOver = true;
      return outcome;
    });
    let answered = 0;
    while (!isOver) {
      expect((await dispatch({ v: HELPER_VERSION, method: "priv.ping", params: {}, op: null })).outcome).toBe("ok");
      answered++;
      await Bun.sleep(0);
    }
    expect((await removal).outcome).toBe("ok");
    expect(answered).toBeGreaterThan(100);
    expect(listJails(host.context)).toEqual([]);
  }, 120_000);

  test("of a VM without one succeeds", async () => {
    using host = makeHost();
    await removeJail(host.context, VM);
    uidOf(host);
    await removeJail(host.context, VM);
  });

  test.each([
    { where: "from outside", enter: "" },
    { where: "from within", enter: "quietly(() => process.chdir(io));" },
  ])(
    "never deletes or unmounts anything of the host while names are exchanged for links $where",
    async ({ enter }) => {
      using host = makeHost();
      const uid = uidOf(host);
      const victim = join(host.treasure, "mounted");
      mkdirSync(victim);
      Bun.spawnSync(["mount", "-t", "tmpfs", "tmpfs", victim]);
      using _unmounted = { [Symbol.dispose]: () => void Bun.spawnSync(["umount", victim]) };
      writeFileSync(join(victim, "file"), "root's");
      const contents = (): string => readdirSync(host.treasure, { recursive: true }).map(String).toSorted().join(" ");
      const before = contents();
      const io = join(jailRoot(host.context, VM), "io");
      const attack = `const fs = require("node:fs");
        const [io, treasure] = process.argv.slice(1);
        const at = ${enter === "" ? "io" : '"."'};
        const quietly = (f) => { try { f(); } catch {} };
        for (let n = 0; ; n++) {
          ${enter}
          quietly(() => fs.mkdirSync(at + "/d/e/inner", { recursive: true }));
          quietly(() => fs.writeFileSync(at + "/d/e/inner/file", ""));
          quietly(() => fs.writeFileSync(at + "/d/e/file", ""));
          quietly(() => fs.renameSync(at + "/d/e", at + "/f"));
          quietly(() => fs.symlinkSync(treasure, at + "/d/e"));
          quietly(() => fs.unlinkSync(at + "/d/e"));
          quietly(() => fs.renameSync(at + "/f", at + "/d/e"));
          quietly(() => fs.renameSync(at + "/d", at + "/g" + (n % 3)));
          quietly(() => fs.symlinkSync(treasure, at + "/d"));
          quietly(() => fs.unlinkSync(at + "/d"));
        }`;
      const { done, errors } = await (async () => {
        await using _owner = runAs(OWNER, attack, [io, host.treasure]);
        await using _vm = runAs(uid, attack, [io, host.treasure]);
        return await race(async () => {
          if (!listJails(host.context).includes(VM)) {
            makeJail(host.context, VM, uid)[Symbol.dispose]();
            mkdirSync(join(io, "m"));
            chownSync(join(io, "m"), OWNER, OWNER);
            mkdirSync(join(io, "m/mounted"));
            Bun.spawnSync(["mount", "-t", "tmpfs", "tmpfs", join(io, "m/mounted")]);
            await Bun.sleep(2);
          }
          await removeJail(host.context, VM);
        });
      })();
      await removeJail(host.context, VM);
      expect(listJails(host.context)).toEqual([]);
      expect(listJailMounts(host.context)).toEqual([]);
      // A process inside may always be faster; the next call then continues. Nothing else may happen.
      const attempts = [...errors.values()].reduce((sum, count) => sum + count, done);
      expect(enter === "" ? done : attempts).toBeGreaterThan(0);
      const allowed = ["ENOTEMPTY", "ENOENT", "ENOTDIR", "ELOOP", "HELPER_REFUSED", "IN_USE", "EXDEV", "EAGAIN"];
      expect([...errors.keys()].filter((code) => !allowed.includes(code))).toEqual([]);
      expect(contents()).toBe(before);
      expect(readFileSync(join(victim, "file"), "utf8")).toBe("root's");
    },
    RACE_MS + 30_000,
  );
});
