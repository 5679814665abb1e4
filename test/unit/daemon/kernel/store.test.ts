import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { link, mkdir, mkdtemp, readdir, readFile, rm, stat, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { zstdCompressSync } from "node:zlib";
import { agentTail } from "../../../../src/daemon/kernel/agent-archive.ts";
import { makeInitrd } from "../../../../src/daemon/kernel/make-initrd.ts";
import { writeCpio } from "../../../../src/daemon/kernel/write-cpio.ts";
import { createKernelStore, type KernelStore, listDeadStaging } from "../../../../src/daemon/kernel/store.ts";
import { runTool, toolPath } from "../../../../src/daemon/host/run-tool.ts";
import { rootlessPaths } from "../../../../src/shared/places/paths.ts";
import { makeBzImage, makeElf } from "../../../support/kernels.ts";

const elf = makeElf({ bytes: 8192, release: "6.1.2-test" });
const bzImage = makeBzImage(zstdCompressSync(elf), elf.length);
const run = { signal: new AbortController().signal, progress: (): void => undefined };
const GOOD_CONFIG = ["VIRTIO_MMIO", "VIRTIO_BLK", "VIRTIO_NET", "EXT4_FS", "VSOCKETS"]
  .map((key) => `CONFIG_${key}=y\n`)
  .join("");

let home: string;
let store: KernelStore;
let agent = Buffer.from("agent");
beforeEach(async () => {
  home = await mkdtemp(join(tmpdir(), "kernels-"));
  store = createKernelStore(rootlessPaths({}, home, 1000), () => Promise.resolve(agent));
});
afterEach(async () => await rm(home, { recursive: true, force: true }));

const kernelsDir = (): string => rootlessPaths({}, home, 1000).kernelsDir;
async function makeBoot(files: Readonly<Record<string, string | Uint8Array>>): Promise<string> {
  const directory = join(home, "boot");
  await mkdir(directory, { recursive: true });
  for (const [name, contents] of Object.entries(files)) await writeFile(join(directory, name), contents);
  return directory;
}

describe("import", () => {
  test("a bzImage, a vmlinux and a directory give the same kernel", async () => {
    const directory = await makeBoot({
      "vmlinuz-6.1.2-test": bzImage,
      "initrd.img-6.1.2-test": "initrd",
      "config-6.1.2-test": GOOD_CONFIG,
    });
    await writeFile(join(home, "vmlinux"), elf);
    const fromFile = await store.import({ name: "a", from: join(directory, "vmlinuz-6.1.2-test") }, run);
    const fromElf = await store.import({ name: "b", from: join(home, "vmlinux") }, run);
    const fromDirectory = await store.import({ name: "c", from: directory }, run);
    expect(new Set([fromFile.digest, fromElf.digest, fromDirectory.digest]).size).toBe(1);
    expect(fromFile).toMatchObject({ version: "6.1.2-test", hasInitrd: false, bytes: elf.length });
    expect(fromDirectory.hasInitrd).toBe(true);
    expect(await store.list()).toEqual([fromFile, fromElf, fromDirectory]);
    expect(await Bun.file((await store.bootFiles("c")).initrdPath).text()).toStartWith("initrd");
  });

  test.skipIf(Bun.which("dpkg-deb", { PATH: toolPath() }) === null)("a Debian package", async () => {
    const tree = join(home, "package");
    await mkdir(join(tree, "DEBIAN"), { recursive: true });
    await mkdir(join(tree, "boot"));
    await writeFile(
      join(tree, "DEBIAN/control"),
      "Package: linux-image-test\nVersion: 1\nArchitecture: amd64\nMaintainer: t <t@example.org>\nDescription: t\n",
    );
    await writeFile(join(tree, "boot/vmlinuz-6.1.2-test"), bzImage);
    await Bun.$`chmod -R u=rwX,go=rX ${tree}`.quiet();
    const target = join(home, "kernel.deb");
    await runTool(["dpkg-deb", "--build", "--root-owner-group", tree, target], { timeoutMs: 30_000 });
    expect(await store.import({ name: "deb", from: target }, run)).toMatchObject({ version: "6.1.2-test" });
    expect(await readdir(kernelsDir())).toEqual(["deb"]);
  });

  test("refuses what can't boot and leaves nothing", async () => {
    const directory = await makeBoot({ vmlinuz: bzImage, config: GOOD_CONFIG.replace("VIRTIO_BLK=y", "VIRTIO_BLK=n") });
    await expect(store.import({ name: "x", from: directory }, run)).rejects.toMatchObject({
      code: "KERNEL_INVALID",
      message: expect.stringContaining("VIRTIO_BLK"),
    });
    await writeFile(join(directory, "config"), GOOD_CONFIG.replace("VIRTIO_BLK=y", "VIRTIO_BLK=m"));
    await expect(store.import({ name: "x", from: directory }, run)).rejects.toMatchObject({
      code: "KERNEL_INVALID",
      message: expect.stringContaining("initrd"),
    });
    await expect(store.import({ name: "x", from: "/dev/null" }, run)).rejects.toMatchObject({ code: "KERNEL_INVALID" });
    await expect(store.import({ name: "x", from: join(home, "absent") }, run)).rejects.toMatchObject({
      code: "KERNEL_INVALID",
    });
    await symlink("/dev/zero", join(home, "endless"));
    await expect(store.import({ name: "x", from: join(home, "endless") }, run)).rejects.toMatchObject({
      code: "KERNEL_INVALID",
    });
    await writeFile(join(home, "text"), "hello");
    await expect(store.import({ name: "x", from: join(home, "text") }, run)).rejects.toMatchObject({
      code: "KERNEL_INVALID",
    });
    expect(await readdir(kernelsDir())).toEqual([]);
  });

  test("a name is taken once; put replaces", async () => {
    const first = await store.put({ name: "k", image: bzImage, initrd: null, source: "a" }, run);
    await expect(store.import({ name: "k", from: home }, run)).rejects.toMatchObject({ code: "ALREADY_EXISTS" });
    const second = await store.put({ name: "k", image: elf, initrd: Buffer.from("i"), source: "b" }, run);
    expect(first.hasInitrd).toBe(false);
    expect(await store.list()).toEqual([second]);
    await store.delete("k");
    await expect(store.show("k")).rejects.toMatchObject({ code: "KERNEL_NOT_FOUND" });
  });
});

describe("what a guest boots with", () => {
  const files = async (): Promise<readonly string[]> => (await readdir(join(kernelsDir(), "k"))).toSorted();
  const initrd = async (): Promise<Buffer> => await readFile((await store.bootFiles("k")).initrdPath);
  const put = async (base: string | null): Promise<void> => {
    const bytes = base === null ? null : Buffer.from(base);
    await store.put({ name: "k", image: elf, initrd: bytes, source: "test" }, run);
  };
  beforeEach(() => {
    agent = Buffer.from("agent");
  });

  test("the base, and behind it the agent's archive at a multiple of 4", async () => {
    await put("a base");
    expect(await initrd()).toEqual(Buffer.concat([Buffer.from("a base\u0000\u0000"), agentTail(agent, 0)]));
    expect(await files()).toEqual(["initrd.base.img", "initrd.img", "manifest.json", "vmlinux"]);
    expect(await Bun.file(join(kernelsDir(), "k/initrd.base.img")).text()).toBe("a base");
  });

  test("a kernel without an initrd boots the agent alone, and is still recorded as one without", async () => {
    await put(null);
    expect(await initrd()).toEqual(Buffer.from(agentTail(agent, 0)));
    expect(await store.show("k")).toMatchObject({ hasInitrd: false });
  });

  test("written once for an agent, and again for another one, never on top of the first", async () => {
    await put("a base");
    const { ino } = await stat((await store.bootFiles("k")).initrdPath);
    expect((await stat((await store.bootFiles("k")).initrdPath)).ino).toBe(ino);
    agent = Buffer.from("other");
    expect(await initrd()).toEqual(Buffer.concat([Buffer.from("a base\u0000\u0000"), agentTail(agent, 0)]));
    expect((await stat((await store.bootFiles("k")).initrdPath)).ino).not.toBe(ino);
  });

  test.each([
    ["cut off", (whole: Buffer): Buffer => whole.subarray(0, -3)],
    ["longer", (whole: Buffer): Buffer => Buffer.concat([whole, Buffer.from("x")])],
    ["without the archive", (): Buffer => Buffer.from("a base")],
    ["gone", (): null => null],
  ])("an initrd that is %s is made again", async (_, damage) => {
    await put("a base");
    const whole = await initrd();
    const damaged = damage(whole);
    if (damaged === null) await rm(join(kernelsDir(), "k/initrd.img"));
    else await writeFile(join(kernelsDir(), "k/initrd.img"), damaged);
    expect(await initrd()).toEqual(whole);
  });

  test("a crash after the base was kept changes nothing", async () => {
    await put("a base");
    await link(join(kernelsDir(), "k/initrd.img"), join(kernelsDir(), "k/initrd.base.img"));
    expect((await initrd()).toString("latin1")).toStartWith("a base\u0000\u0000070701");
    expect(await Bun.file(join(kernelsDir(), "k/initrd.base.img")).text()).toBe("a base");
  });

  test("many starts at once, one file", async () => {
    for (const base of ["a base", null]) {
      await put(base);
      await Promise.all(Array.from({ length: 8 }, async () => await store.bootFiles("k")));
      expect(await initrd()).toEqual(
        Buffer.concat([Buffer.from(base === null ? "" : "a base\u0000\u0000"), agentTail(agent, 0)]),
      );
      expect(await store.findLeftovers()).toEqual([]);
      expect(await readdir(kernelsDir())).toEqual(["k"]);
    }
  });

  test("banger's own initrd leaves the boot to the agent, and so does none; another's doesn't", async () => {
    const busybox = Buffer.alloc(100_000, 1);
    const own = makeInitrd({ busybox, modules: [{ name: "00-virtio.ko", contents: busybox }] });
    const others = writeCpio([
      { path: "init", mode: 0o100755, contents: busybox },
      { path: "lib/modules", mode: 0o40755 },
    ]);
    // Sizes by which a reader that counts in 32 bits never moves on.
    const header = (size: string, nameBytes: string): string =>
      `070701${"00000000".repeat(6)}${size}${"00000000".repeat(4)}${nameBytes}00000000`;
    const endless = ["FFFFFF88 0000000A", "00000000 -000006e", "00000000 FFFFFF92"].map((sizes) =>
      Buffer.from(header(...(sizes.split(" ") as [string, string])).padEnd(5000, "0")),
    );
    const answers: boolean[] = [];
    for (const initrd of [
      own,
      null,
      others,
      Buffer.from("\u001f\u008b compressed"),
      Buffer.alloc(5000, "0"),
      ...endless,
    ]) {
      await store.put({ name: "k", image: elf, initrd, source: "test" }, run);
      answers.push((await store.bootFiles("k")).hasAgent, (await store.bootFiles("k")).hasAgent);
    }
    expect(answers.slice(0, 4)).toEqual([true, true, true, true]);
    expect(answers.slice(4)).toEqual(Array.from({ length: 12 }, () => false));
  });

  test("put and delete take all of it away", async () => {
    await put("a base");
    await store.bootFiles("k");
    await put("another");
    expect((await initrd()).toString("latin1")).toStartWith("another\u0000070701");
    await store.delete("k");
    expect(await readdir(kernelsDir())).toEqual([]);
    await expect(store.bootFiles("k")).rejects.toMatchObject({ code: "KERNEL_NOT_FOUND" });
  });
});

test("staging directories of a dead process are leftovers", async () => {
  await mkdir(join(kernelsDir(), ".staging-dead"), { recursive: true });
  expect(await store.findLeftovers()).toEqual([join(kernelsDir(), ".staging-dead")]);
  expect(await store.list()).toEqual([]);
});

test("a staging directory is dead when the process that its name tells of is", async () => {
  const ended = Bun.spawn(["true"]);
  await ended.exited;
  const [mine, dead, other] = [process.pid, ended.pid, process.ppid].map((pid) => `.staging-${pid}-abc`);
  expect(listDeadStaging([mine ?? "", dead ?? "", other ?? "", ".staging-xyz", "debian"])).toEqual([
    mine ?? "",
    dead ?? "",
    ".staging-xyz",
  ]);
});
