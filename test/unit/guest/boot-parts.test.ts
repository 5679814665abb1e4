/** What the guest reads of the host's, in C, with sanitizers: none of it may crash, and nothing lands where it shouldn't. */

import { afterAll, beforeAll, beforeEach, describe, expect, test } from "bun:test";
import { mkdir, mkdtemp, readdir, readFile, rm, stat, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import fc from "fast-check";
import { filesArchive, identityArchive } from "../../../src/daemon/engine/disks/identity-disk.ts";
import { writeTar } from "../../../src/daemon/image/write-tar.ts";

const ROOT = resolve(import.meta.dir, "../../..");
const compiler = Bun.which("gcc");
const SANITIZED = ["-O1", "-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"];
/** What sanitizers end a program with; the program's own statuses are 0 to 2. */
const OWN_STATUSES = [0, 1];
const RANDOM_RUNS = 150;

let home: string;
let program: string;
let target: string;

beforeAll(async () => {
  home = await mkdtemp(join(tmpdir(), "boot-parts-"));
  program = join(home, "boot-parts");
  if (compiler === null) return;
  const parts = ["files", "untar", "cmdline"].map((name) => join(ROOT, `src/guest/boot/${name}.c`));
  const argv = [
    ...[compiler, "-std=c11", "-D_GNU_SOURCE", "-Wall", "-Wextra", "-Werror", ...SANITIZED],
    ...[`-I${join(ROOT, "src/guest")}`, "-o", program, join(ROOT, "test/support/guest/boot-parts.c"), ...parts],
  ];
  const child = Bun.spawn(argv, { stderr: "pipe", stdout: "ignore" });
  const said = await new Response(child.stderr).text();
  if ((await child.exited) !== 0) throw new Error(said);
}, 60_000);
afterAll(async () => await rm(home, { recursive: true, force: true }));
beforeEach(async () => {
  target = await mkdtemp(join(home, "target-"));
});

async function run(argv: readonly string[], stdin: Uint8Array | string) {
  const child = Bun.spawn([program, ...argv], { stdin: Buffer.from(stdin), stdout: "pipe", stderr: "pipe" });
  const [stdout, stderr, status] = await Promise.all([
    new Response(child.stdout).text(),
    new Response(child.stderr).text(),
    child.exited,
  ]);
  return { status, stdout, stderr };
}

/** Every path below a directory with its mode and contents. */
async function list(directory: string): Promise<Readonly<Record<string, string>>> {
  const found: Record<string, string> = {};
  for (const path of (await readdir(directory, { recursive: true })).toSorted()) {
    const info = await stat(join(directory, path));
    const mode = (info.mode & 0o7777).toString(8);
    found[path] = info.isDirectory() ? `${mode}/` : `${mode} ${await readFile(join(directory, path), "utf8")}`;
  }
  return found;
}

/** An archive's header changed, and its checksum made right again. */
function changed(archive: Uint8Array, change: (header: Buffer) => void): Buffer {
  const bytes = Buffer.from(archive);
  const header = bytes.subarray(0, 512);
  change(header);
  header.fill(" ", 148, 156);
  const sum = header.reduce((total, byte) => total + byte, 0);
  header.write(`${sum.toString(8).padStart(6, "0")}\0 `, 148, "latin1");
  return bytes;
}

const file = (path: string, contents = "x", mode = 0o644) => ({ kind: "file" as const, path, mode, contents });

// Without gcc there is nothing to run; scripts/prepare.sh installs it.
describe.skipIf(compiler === null)("in the guest, compiled (needs gcc)", () => {
  describe("untar", () => {
    const long = `/${"d".repeat(90)}/${"e".repeat(90)}/${"é".repeat(40)}`;
    const archive = identityArchive(
      { hostKey: "secret", hostKeyPublic: "public", authorizedKeys: "keys", gitConfig: "[user]\n" },
      {
        files: filesArchive([
          { path: "/.tokens/banger", mode: 0o600, contents: "token" },
          { path: long as `/${string}`, mode: 0o755, contents: "y".repeat(70_000) },
        ]),
        hasGrown: true,
      },
    );

    test("the identity disk as the host writes it: its own part", async () => {
      expect(await run(["untar", "own", target], archive)).toEqual({ status: 0, stdout: "", stderr: "" });
      expect(await list(target)).toEqual({
        "banger-identity": "644 ",
        gitconfig: "644 [user]\n",
        grown: "644 ",
        "has-files": "644 ",
        identity: "700/",
        "identity/authorized_keys": "600 keys",
        "identity/ssh_host_ed25519_key": "600 secret",
        "identity/ssh_host_ed25519_key.pub": "644 public",
      });
    });

    test("the identity disk as the host writes it: the files for /root, long paths too", async () => {
      expect(await run(["untar", "files", target], archive)).toEqual({ status: 0, stdout: "", stderr: "" });
      const [one, two] = [`${"d".repeat(90)}`, `${"d".repeat(90)}/${"e".repeat(90)}`];
      expect(await list(target)).toEqual({
        ".tokens": "700/",
        ".tokens/banger": "600 token",
        [one]: "700/",
        [two]: "700/",
        [long.slice(1)]: `755 ${"y".repeat(70_000)}`,
      });
    });

    test("takes the place of what is there, and never writes through a link", async () => {
      await writeFile(join(home, "outside"), "untouched");
      await symlink(join(home, "outside"), join(target, "linked"));
      expect((await run(["untar", "own", target], writeTar([file("linked", "new", 0o600)]))).status).toBe(0);
      expect(await list(target)).toEqual({ linked: "600 new" });
      await mkdir(join(home, "elsewhere"), { recursive: true });
      await symlink(join(home, "elsewhere"), join(target, "way"));
      expect(await run(["untar", "own", target], writeTar([file("way/in")]))).toMatchObject({ status: 1 });
      expect(await readdir(join(home, "elsewhere"))).toEqual([]);
      expect(await readFile(join(home, "outside"), "utf8")).toBe("untouched");
    });

    const one = writeTar([file("name")]);
    test.each<[string, Uint8Array]>([
      ["nothing", Buffer.alloc(0)],
      ["half a header", one.subarray(0, 300)],
      ["no end", one.subarray(0, 1024)],
      ["contents cut off", one.subarray(0, 600)],
      ["a wrong checksum", Buffer.concat([one.subarray(0, 1), Buffer.from("X"), one.subarray(2)])],
      ["another format", changed(one, (header) => header.write("gnutar", 257))],
      ["an absolute path", changed(one, (header) => header.write("/etc", 0))],
      ["a way up", changed(one, (header) => header.write("../x", 0))],
      ["a way up within", changed(one, (header) => header.write("a/../../x\0", 0))],
      ["a dot", changed(one, (header) => header.write("a/./x\0", 0))],
      ["an empty part", changed(one, (header) => header.write("a//x\0", 0))],
      ["an empty path", changed(one, (header) => header.fill(0, 0, 100))],
      ["a way up in a long path", writeTar([file(`${"a/".repeat(60)}../b`)])],
      ["a path too deep", writeTar([file(`${"a/".repeat(100)}b`)])],
      ["a name too long", writeTar([file("n".repeat(256))])],
      ["a path too long", writeTar([file("n/".repeat(2100))])],
      ["a path below the prefix", changed(one, (header) => header.write("etc", 345))],
      ["a link", writeTar([{ kind: "link", path: "a", target: "/etc" }])],
      ["a hard link", changed(one, (header) => header.write("1", 156))],
      ["a device", changed(one, (header) => header.write("3", 156))],
      ["a directory with contents", changed(one, (header) => header.write("5", 156))],
      ["a size of 8 GiB that isn't there", changed(one, (header) => header.write("77777777777", 124))],
      ["a size that is no number", changed(one, (header) => header.write("8", 124))],
      ["a negative size", changed(one, (header) => header.write("-0000000001", 124))],
      ["a size in base 256", changed(one, (header) => header.fill(0xff, 124, 136))],
      ["an extended header for all", changed(writeTar([file("n".repeat(120))]), (header) => header.write("g", 156))],
      [
        "an extended header at the end",
        Buffer.concat([writeTar([file("n".repeat(120))]).subarray(0, 1024), Buffer.alloc(1024)]),
      ],
      ["an extended header without a path", Buffer.from(writeTar([file("n".repeat(120))])).fill("X", 516, 520)],
      ["an extended header of a wrong length", Buffer.from(writeTar([file("n".repeat(120))])).fill("9", 512, 515)],
    ])("refuses %s", async (_, hostile) => {
      const { status, stderr } = await run(["untar", "own", join(target)], hostile);
      expect({ status, isSaid: /^banger: .+\n$/.test(stderr), stderr }).toMatchObject({ status: 1, isSaid: true });
    });

    test("any bytes, and any change of a good archive: an end of its own, and nothing outside", async () => {
      const outside = await readdir(home);
      const bytes = fc.oneof(
        fc.uint8Array({ maxLength: 2048 }),
        fc.array(fc.tuple(fc.nat(archive.length - 1), fc.nat(255)), { minLength: 1, maxLength: 8 }).map((changes) => {
          const copy = Buffer.from(archive.subarray(0, 8192));
          for (const [at, byte] of changes) copy[at % copy.length] = byte;
          return changed(copy, () => undefined);
        }),
      );
      await fc.assert(
        fc.asyncProperty(bytes, fc.constantFrom("own", "files"), async (hostile, part) => {
          const { status, stderr } = await run(["untar", part, target], hostile);
          expect({ status, stderr: OWN_STATUSES.includes(status) ? "" : stderr }).toEqual({ status, stderr: "" });
          expect(await readdir(home)).toEqual(outside);
        }),
        { numRuns: RANDOM_RUNS },
      );
    }, 60_000);
  });

  describe("the kernel's arguments", () => {
    const words = async (text: string): Promise<Readonly<Record<string, string>>> => {
      const { status, stdout, stderr } = await run(["words"], text);
      expect({ status, stderr }).toEqual({ status: 0, stderr: "" });
      return Object.fromEntries(
        stdout
          .trimEnd()
          .split("\n")
          .map((line) => line.split(/=(.*)/s).slice(0, 2)),
      );
    };
    const DEFAULTS = { root: "/dev/vda", type: "ext4", init: "/sbin/init", asked: "0", hostname: "" };

    test("what stands for what isn't said", async () => {
      expect(await words("")).toEqual(DEFAULTS);
      expect(await words("quiet rw ip=dhcp xroot=/dev/x init\n")).toEqual(DEFAULTS);
    });

    test("what banger says, the last of several, quotes", async () => {
      expect(
        await words(
          'root=/dev/a root="/dev/b c" rootfstype=xfs init=/bin/sh systemd.hostname=box ip=10.0.2.15::10.0.2.2:255.255.255.0::eth0:off:10.0.2.3\n',
        ),
      ).toEqual({
        ...{ root: "/dev/b c", type: "xfs", init: "/bin/sh", asked: "1", hostname: "box" },
        ...{ device: "eth0", client: "10.0.2.15", netmask: "255.255.255.0", gateway: "10.0.2.2", dns: "10.0.2.3" },
      });
    });

    test("what follows -- is init's own", async () => {
      expect(await words("root=/dev/a -- root=/dev/b")).toEqual({ ...DEFAULTS, root: "/dev/a" });
    });

    test("no gateway, no name server, no device", async () => {
      expect(await words("ip=10.0.0.2:::255.0.0.0:")).toMatchObject({ device: "eth0", gateway: "", dns: "" });
    });

    test.each([
      ["no address", "ip=::10.0.2.2:255.255.255.0::eth0"],
      ["no netmask", "ip=10.0.2.15::10.0.2.2:"],
      ["a gateway that is none", "ip=10.0.2.15::gate:255.255.255.0"],
      ["a device that is a path", "ip=10.0.2.15:::255.255.255.0::../x"],
      ["a device's name that is too long", "ip=10.0.2.15:::255.255.255.0::sixteen-and-more"],
      ["more than fits", `ip=10.0.2.15:::255.255.255.0::${"x".repeat(300)}`],
    ])("an ip= with %s sets nothing", async (_, text) => {
      expect(await words(text)).toEqual(DEFAULTS);
    });

    test("any text", async () => {
      const word = fc.tuple(fc.constantFrom("root=", "ip=", "init=", '"', "--", "systemd.hostname="), fc.string());
      await fc.assert(
        fc.asyncProperty(fc.array(word, { maxLength: 6 }), async (list) => {
          const { status, stderr } = await run(["words"], list.flat().join(" "));
          expect({ status, stderr }).toEqual({ status: 0, stderr: "" });
        }),
        { numRuns: RANDOM_RUNS },
      );
    }, 60_000);
  });

  test("a directory is emptied, and what links lead to is left alone", async () => {
    await mkdir(join(target, "a/b/c"), { recursive: true });
    await writeFile(join(target, "a/b/c/file"), "x");
    await writeFile(join(home, "kept"), "x");
    await symlink(join(home, "kept"), join(target, "a/link"));
    await symlink(home, join(target, "up"));
    expect((await run(["clear", target], "")).status).toBe(0);
    expect(await readdir(target)).toEqual([]);
    expect(await readFile(join(home, "kept"), "utf8")).toBe("x");
  });
});
