import { afterEach, beforeEach, expect, test } from "bun:test";
import { chmod, mkdir, mkdtemp, readdir, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { createImageStore, type ImageStore } from "../../../../src/daemon/image/store.ts";
import { createKernelStore } from "../../../../src/daemon/kernel/store.ts";
import { detectConfinement } from "../../../../src/daemon/host/run-tool.ts";
import { systemPaths } from "../../../../src/shared/places/paths.ts";

let root: string;
let images: ImageStore;
const run = { signal: new AbortController().signal, progress: () => undefined };

beforeEach(async () => {
  root = await mkdtemp("/tmp/bt-is-");
  const paths = systemPaths(root);
  images = createImageStore(paths, createKernelStore(paths), { canBuild: false });
});
afterEach(async () => await rm(root, { recursive: true, force: true }));

test("a store that can't build says which image somebody else has to, and leaves nothing behind", async () => {
  await expect(images.ensure("debian-trixie", run)).rejects.toMatchObject({
    code: "IMAGE_NOT_BUILT",
    details: { image: "debian-trixie" },
  });
  await expect(images.ensure("debian-trixie", run, true)).rejects.toMatchObject({ code: "IMAGE_NOT_BUILT" });
  expect(await images.findLeftovers()).toEqual([]);
  expect(await readdir(root)).toEqual([]);
});

test("one that no catalog knows is not there at all", async () => {
  await expect(images.ensure("no-such-thing", run)).rejects.toMatchObject({ code: "IMAGE_NOT_FOUND" });
});

test("what was put there meanwhile is found: the owner's own process built it", async () => {
  const record = {
    name: "debian-trixie",
    distro: "debian",
    release: "trixie",
    arch: "x86_64",
    source: "http://deb.debian.org/debian",
    digest: `sha256:${"0".repeat(64)}`,
    rootfsBytes: 1,
    allocatedBytes: 0,
    kernel: null,
    kernelVersion: null,
    createdAt: "2026-01-02T03:04:05.678Z",
    builtBy: "test",
    units: [],
  };
  await Bun.write(join(systemPaths(root).imagesDir, "debian-trixie/manifest.json"), JSON.stringify(record));
  expect(await images.ensure("debian-trixie", run)).toEqual(record);
});

const isConfined = (await detectConfinement()).kind === "namespaces";
test.skipIf(!isConfined)(
  "a foreign image's checker sees that image and nothing else (needs user namespaces)",
  async () => {
    const paths = systemPaths(root);
    const kernel = {
      name: "k",
      version: null,
      arch: "x86_64",
      source: "test",
      digest: `sha256:${"0".repeat(64)}`,
      bytes: 1,
      hasInitrd: false,
      createdAt: "2026-01-02T03:04:05.678Z",
    };
    await Bun.write(join(paths.kernelsDir, "k/manifest.json"), JSON.stringify(kernel));
    const rootfs = join(root, "hostile.ext4");
    await writeFile(rootfs, "takes e2fsck over");
    await mkdir(join(root, "bin"));
    const taken = [
      "#!/bin/sh",
      'echo "$2 holds $(cat "$2")"',
      `for path in ${rootfs} ${paths.kernelsDir} /etc/passwd /home /root /proc/self /run; do [ ! -e "$path" ] || echo "sees $path"; done`,
      '{ echo x > "$2"; } 2> /dev/null && echo writes',
      "exit 8",
    ];
    await writeFile(join(root, "bin/e2fsck"), taken.join("\n"));
    await chmod(join(root, "bin/e2fsck"), 0o755);
    const before = process.env["PATH"];
    process.env["PATH"] = `${join(root, "bin")}:${before}`;
    try {
      await expect(images.register({ name: "mine", rootfs, kernel: "k" }, run)).rejects.toMatchObject({
        code: "INVALID_VALUE",
        message: expect.stringMatching(/ended with 8: \S+\/rootfs\.ext4 holds takes e2fsck over$/),
      });
    } finally {
      process.env["PATH"] = before;
    }
    expect(await images.list()).toEqual([]);
  },
);
