import { describe, expect, test } from "bun:test";
import {
  chmodSync,
  chownSync,
  existsSync,
  linkSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { isErrno } from "../../src/shared/errors.ts";
import type { HelperParsedInputOf } from "../../src/shared/helper-contract.ts";
import {
  admitOwner,
  copyLibraries,
  jailPath,
  jailRoot,
  listJails,
  listJailMounts,
  makeJail,
  openJailRoot,
  removeJail,
} from "../../src/helper/jail.ts";
import { launch, stage } from "../../src/helper/launch.ts";
import { listSlots, releaseSlot, takeSlot } from "../../src/helper/slots.ts";
import {
  fingerprint,
  makeHost,
  outputAs,
  OWNER,
  race,
  RACE_MS,
  runAs,
  STRANGER,
  type TestHost,
  uidOf,
  VM,
} from "./support.ts";

/** What a user may do in a jail: enter, list, and use `io`. One word per thing tried. */
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

/** What Firecracker does in its jail, as its uid: a socket and a log, with the umask the helper gives. */
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

describe("a staged jail", () => {
  test("is the VM's and the owner's, each as far as they need, and nobody else's", async () => {
    using host = makeHost();
    plantFiles(host);
    const slot = takeSlot(host.context, VM);
    const other = takeSlot(host.context, "ffffffffffff");
    using root = makeJail(host.context, VM, slot.uid);
    await stage(host.context, input, slot, root);
    const path = jailRoot(host.context, VM);
    for (const uid of [OWNER, STRANGER, other.uid]) expect(await outputAs(uid, PROBE, [path])).toBe("");

    // As the jailer does it before it becomes the VM's uid.
    chmodSync(path, 0o700);
    await using server = runAs(slot.uid, SERVE, [path]);
    while (!existsSync(join(path, "io/api.sock"))) await Bun.sleep(5);
    for (const uid of [OWNER, STRANGER, other.uid]) expect(await outputAs(uid, PROBE, [path])).toBe("");

    admitOwner(root);
    expect(await outputAs(OWNER, PROBE, [path])).toBe("list-io make-io read-log kernel disk connect");
    expect(await outputAs(slot.uid, PROBE, [path])).toBe("list make list-io make-io read-log kernel disk connect");
    for (const uid of [STRANGER, other.uid]) expect(await outputAs(uid, PROBE, [path])).toBe("");
    void server;

    // The files are still the owner's, under their own names too.
    expect(statSync(join(host.context.paths.vmsDir, VM, "work.ext4"))).toMatchObject({ uid: OWNER, nlink: 2 });
    removeJail(host.context, VM);
    expect(listJails(host.context)).toEqual([]);
    expect(statSync(join(host.context.paths.vmsDir, VM, "work.ext4"))).toMatchObject({ uid: OWNER, nlink: 1 });
    expect(readFileSync(join(host.context.paths.kernelsDir, "k/vmlinux"), "utf8")).toBe("kernel");
  });

  test("never shows a looser mode while it is made, watched in a tight loop", async () => {
    using host = makeHost();
    plantFiles(host);
    const slot = takeSlot(host.context, VM);
    const path = jailRoot(host.context, VM);
    await using watcher = runAs(
      STRANGER,
      `const fs = require("node:fs");
       const root = process.argv[1];
       const seen = new Set();
       const end = Date.now() + 2000;
       while (Date.now() < end) {
         // root's parent is 0711: a stranger sees root's mode, and must see nothing below.
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
      using root = makeJail(host.context, VM, slot.uid);
      await stage(host.context, input, slot, root);
      admitOwner(root);
      removeJail(host.context, VM);
      rounds++;
      await Bun.sleep(0);
    }
    expect(rounds).toBeGreaterThan(10);
    expect(await watcher.output()).toBe("root 0");
  }, 20_000);

  test("a dynamic program finds its libraries in it", async () => {
    using host = makeHost();
    const { uid } = takeSlot(host.context, VM);
    using root = makeJail(host.context, VM, uid);
    const list = Bun.spawnSync(["ldd", "/bin/true"]).stdout.toString();
    const libraries = [...list.matchAll(/(\/\S+) \(0x/g)].map((match) => match[1] ?? "");
    copyLibraries(root, [...libraries, "/bin/true"], uid);
    const path = jailRoot(host.context, VM);
    const inside = Bun.spawnSync(["chroot", `--userspec=${uid}:${uid}`, path, "/bin/true"]);
    expect(inside.stderr.toString()).toBe("");
    expect(inside.exitCode).toBe(0);
    removeJail(host.context, VM);
    expect(listJails(host.context)).toEqual([]);
  });
});

describe("what is planted for a launch", () => {
  test.each([
    ["a kernel that links to root's file", "kernels/k/vmlinux", "vmlinux"],
    ["a work disk that links to root's file", `vms/${VM}/work.ext4`, "work.ext4"],
    ["an identity disk that links to root's file", `vms/${VM}/identity.img`, "work.ext4"],
    ["a root disk that links to root's file", `vms/${VM}/root.ext4`, "rootfs.ext4"],
  ])("%s is refused, hard or symbolic", async (_, path, target) => {
    for (const plant of [symlinkSync, linkSync]) {
      using host = makeHost();
      plantFiles(host);
      const victim = join(host.treasure, target);
      Bun.spawnSync(["rm", join(host.context.paths.stateDir, path)]);
      plant(victim, join(host.context.paths.stateDir, path));
      const before = fingerprint(host.treasure);
      const slot = takeSlot(host.context, VM);
      using root = makeJail(host.context, VM, slot.uid);
      const outcome = await stage(host.context, input, slot, root).then(
        () => "staged",
        (thrown: { code?: string }) => thrown.code,
      );
      expect(outcome).toBe("HELPER_REFUSED");
      expect(fingerprint(host.treasure)).toBe(before);
    }
  });
});

describe("a launch that fails", () => {
  /** Programs of root's where install.toml says. There is no systemd here, so starting them fails. */
  function plantPrograms(host: TestHost, mode = 0o755): string {
    const directory = host.context.install.firecracker?.directory ?? "";
    mkdirSync(directory, { mode: 0o755 });
    for (const name of ["firecracker", "jailer"]) {
      writeFileSync(join(directory, name), "#!/bin/false\n");
      chmodSync(join(directory, name), mode);
    }
    return directory;
  }
  const attempt = async (host: TestHost): Promise<string> =>
    await launch(host.context, input).then(
      () => "launched",
      (thrown: { code?: string }) => thrown.code ?? String(thrown),
    );

  test("leaves no jail, and the disk with one name", async () => {
    using host = makeHost();
    plantFiles(host);
    plantPrograms(host);
    // A machine without systemd may lack the program, too.
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
    ["a directory of the owner's", (at: string) => chownSync(at, OWNER, OWNER)],
    ["a second name of the program", (at: string) => linkSync(join(at, "jailer"), join(at, "other"))],
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
});

describe("removing a jail", () => {
  function jailOf(host: TestHost): { readonly path: string; readonly uid: number } {
    const uid = uidOf(host);
    makeJail(host.context, VM, uid)[Symbol.dispose]();
    const path = jailRoot(host.context, VM);
    chmodSync(path, 0o710);
    return { path, uid };
  }

  test("unmounts the innermost first, and follows no link", () => {
    using host = makeHost();
    const { path, uid } = jailOf(host);
    for (const at of ["io/a", "io/a/b", "usr"]) {
      mkdirSync(join(path, at), { recursive: true });
      chownSync(join(path, at), uid, uid);
      expect(Bun.spawnSync(["mount", "-t", "tmpfs", "tmpfs", join(path, at)]).exitCode).toBe(0);
    }
    writeFileSync(join(path, "io/a/b/file"), "x");
    symlinkSync(host.treasure, join(path, "io/link"));
    symlinkSync(host.treasure, join(path, "treasure"));
    const before = fingerprint(host.treasure);
    expect(listJailMounts(host.context)).toHaveLength(3);
    removeJail(host.context, VM);
    expect(listJailMounts(host.context)).toEqual([]);
    expect(existsSync(jailPath(host.context, VM))).toBe(false);
    expect(fingerprint(host.treasure)).toBe(before);
  });

  test("does not enter a directory that is neither the VM's nor the owner's", () => {
    using host = makeHost();
    const { path } = jailOf(host);
    // The owner may move a directory of its own into io, with root's files inside: root must not delete them.
    const bait = join(path, "io/bait");
    mkdirSync(join(bait, "roots"), { recursive: true });
    chownSync(bait, OWNER, OWNER);
    writeFileSync(join(bait, "roots/precious"), "root's");
    expect(() => removeJail(host.context, VM)).toThrow(/belongs to neither/);
    expect(readFileSync(join(bait, "roots/precious"), "utf8")).toBe("root's");
  });

  test("nothing there is fine", () => {
    using host = makeHost();
    removeJail(host.context, VM);
    uidOf(host);
    removeJail(host.context, VM);
  });

  test.each([
    { where: "from outside", enter: "" },
    { where: "from within", enter: "quietly(() => process.chdir(io));" },
  ])(
    "names exchanged for links in a loop $where never let it delete or unmount what is the host's",
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
          if (openIfThere(host) === null) {
            makeJail(host.context, VM, uid)[Symbol.dispose]();
            chmodSync(jailRoot(host.context, VM), 0o710);
            mkdirSync(join(io, "m"));
            chownSync(join(io, "m"), OWNER, OWNER);
            mkdirSync(join(io, "m/mounted"));
            Bun.spawnSync(["mount", "-t", "tmpfs", "tmpfs", join(io, "m/mounted")]);
            await Bun.sleep(2);
          }
          removeJail(host.context, VM);
        });
      })();
      removeJail(host.context, VM);
      expect(listJails(host.context)).toEqual([]);
      expect(listJailMounts(host.context)).toEqual([]);
      // Who is inside may always be quicker: then the next call goes on. Nothing else may happen.
      const attempts = [...errors.values()].reduce((sum, count) => sum + count, done);
      expect(enter === "" ? done : attempts).toBeGreaterThan(0);
      const allowed = ["ENOTEMPTY", "ENOENT", "ENOTDIR", "ELOOP", "HELPER_REFUSED", "EXDEV", "EEXIST", "EAGAIN"];
      expect([...errors.keys()].filter((code) => !allowed.includes(code))).toEqual([]);
      expect(contents()).toBe(before);
      expect(readFileSync(join(victim, "file"), "utf8")).toBe("root's");
    },
    RACE_MS + 30_000,
  );

  function openIfThere(host: TestHost): string | null {
    try {
      using root = openJailRoot(host.context, VM);
      return root === null ? null : root.label;
    } catch (thrown) {
      if (isErrno(thrown, "ENOENT")) return null;
      throw thrown;
    }
  }
});
