/** A real build of the default image through the stores. Needs the Debian archive and the tools of a build. */

import { afterAll, beforeAll, expect, test } from "bun:test";
import { mkdir, mkdtemp, readdir, readFile, rm, stat, writeFile } from "node:fs/promises";
import { join } from "node:path";
import type { Progress } from "../../src/shared/contract/owner-api.ts";
import { BangerError } from "../../src/shared/errors.ts";
import { rootlessPaths } from "../../src/shared/places/paths.ts";
import type { ImageRecord } from "../../src/shared/contract/schemas.ts";
import { buildDirPrefix } from "../../src/daemon/image/build-debian.ts";
import { createImageStore } from "../../src/daemon/image/store.ts";
import { checkElf } from "../../src/daemon/kernel/extract.ts";
import { createKernelStore } from "../../src/daemon/kernel/store.ts";
import { runTool } from "../../src/daemon/host/run-tool.ts";
import { hasPvhEntry } from "../support/kernels.ts";

const IMAGE = "debian-trixie";
const BUILD_TIMEOUT_MS = 600_000;

const HOST_LISTS = "/var/lib/apt/lists";
const readHostLists = async (): Promise<readonly string[]> => (await readdir(HOST_LISTS).catch(() => [])).sort();
/** In the host's own apt lists, where a build has nothing to change. Root only: nobody else could. */
const witness = join(HOST_LISTS, "banger-test-witness_InRelease");

const umask = process.umask(0o077);
// A quote and a space: a home may be named so, and no shell may ever see it.
const home = await mkdtemp("/var/tmp/banger it's a test-");
const paths = rootlessPaths({}, home, process.getuid?.() ?? 0);
const kernels = createKernelStore(paths);
const images = createImageStore(paths, kernels);
const seen: Progress[] = [];
let image: ImageRecord;

let listsBefore: readonly string[];

beforeAll(async () => {
  if (process.getuid?.() === 0) await writeFile(witness, "").catch(() => undefined);
  listsBefore = await readHostLists();
  // Two askers at once, one build.
  const silent = { signal: new AbortController().signal, progress: () => undefined };
  const [first, second] = await Promise.all([
    images.ensure(IMAGE, { signal: new AbortController().signal, progress: (p) => seen.push(p) }),
    images.ensure(IMAGE, silent),
  ]);
  expect(second).toEqual(first);
  image = first;
}, BUILD_TIMEOUT_MS);

afterAll(async () => {
  await rm(witness, { force: true }).catch(() => undefined);
  process.umask(umask);
  await rm(home, { recursive: true, force: true });
});

const rootfs = (): string => join(paths.imagesDir, IMAGE, "rootfs.ext4");
const debugfs = async (request: string): Promise<string> =>
  (await runTool(["debugfs", "-R", request, rootfs()], { timeoutMs: 30_000 })).stdout;

test("the file system is sound, sparse, labelled and private", async () => {
  await runTool(["e2fsck", "-fn", rootfs()], { timeoutMs: 120_000 });
  const info = await stat(rootfs());
  expect(info.size).toBe(image.rootfsBytes);
  expect(info.size).toBeGreaterThanOrEqual(2 * 1024 ** 3);
  expect(info.blocks * 512).toBeLessThan(1024 ** 3);
  expect(info.mode & 0o777).toBe(0o600);
  const stats = await debugfs("stats -h");
  expect(stats).toMatch(/Filesystem volume name:\s+banger-root/);
  expect(stats).toMatch(/Block size:\s+4096/);
}, 180_000);

test("nothing in it is the same in every VM or of this host", async () => {
  const ssh = await debugfs("ls -p /etc/ssh");
  expect(ssh).toContain("sshd_config");
  expect(ssh).not.toContain("ssh_host_");
  expect((await debugfs("cat /etc/machine-id")).trim()).toBe("");
  const etc = await debugfs("ls -p /etc");
  expect(etc).not.toContain("/resolv.conf/");
  expect(etc).not.toContain("/hostname/");
  expect(
    (await debugfs("ls -p /media"))
      .split("\n")
      .filter((line) => /\/(?!\.)[^/]+\/\d*\/$/.test(line) && !/\/\.{1,2}\//.test(line)),
  ).toEqual([]);
});

test("a build leaves the host's own apt lists alone", async () => {
  expect(await readHostLists()).toEqual(listsBefore);
});

test("files belong to root and have their modes", async () => {
  expect(await debugfs("stat /etc/shadow")).toMatch(/Mode:\s+0640.*\n?[\s\S]*User:\s+0\s+Group:\s+42/);
  expect(await debugfs("stat /usr/bin/su")).toMatch(/Mode:\s+04755/);
  for (const unit of image.units)
    expect(await debugfs(`cat /etc/systemd/system/${unit}`)).toMatch(/^\[(?:Service|Slice|Socket)\]$/m);
});

test("the kernel is an ELF that QEMU can enter, with an initrd", async () => {
  const kernel = await kernels.show(image.kernel ?? "");
  expect(kernel.version).toBe(image.kernelVersion);
  const { kernelPath, initrdPath } = await kernels.bootFiles(kernel.name);
  const elf = await readFile(kernelPath);
  checkElf(elf);
  expect(hasPvhEntry(elf)).toBe(true);
  expect((await readFile(initrdPath)).toString("latin1", 0, 6)).toBe("070701");
});

test("progress went through the stages, with counts that never pass their total", () => {
  const stages = [...new Set(seen.map(({ stage }) => stage))];
  for (const stage of ["resolve", "download", "unpack", "configure", "filesystem", "kernel"])
    expect(stages).toContain(stage);
  for (const { done = 0, total = Infinity } of seen) expect(done).toBeLessThanOrEqual(total);
});

test(
  "a cancelled build leaves nothing and keeps the image that is there",
  async () => {
    const abort = new AbortController();
    const building = images.ensure(
      IMAGE,
      {
        signal: abort.signal,
        progress: ({ stage }) => {
          if (stage === "unpack") abort.abort(new BangerError("CANCELLED", "cancelled"));
        },
      },
      true,
    );
    await expect(building).rejects.toMatchObject({ code: "CANCELLED" });
    const left = (await readdir("/var/tmp")).filter((name) => name.startsWith(buildDirPrefix(paths.imagesDir)));
    expect(left).toEqual([]);
    expect(await readFile("/proc/self/mountinfo", "utf8")).not.toContain(buildDirPrefix(paths.imagesDir));
    expect(await images.findLeftovers()).toEqual([]);
    expect(await images.show(IMAGE)).toEqual(image);
  },
  BUILD_TIMEOUT_MS,
);

test("leftovers of a dead build are found and removed", async () => {
  const staging = join(paths.imagesDir, ".staging-dead");
  await mkdir(staging, { recursive: true });
  expect(await images.findLeftovers()).toEqual([{ kind: "directory", what: staging }]);
  await images.removeLeftovers();
  expect((await readdir(paths.imagesDir)).sort()).toEqual([IMAGE]);
});
