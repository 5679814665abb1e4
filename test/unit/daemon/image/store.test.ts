import { afterEach, beforeEach, expect, test } from "bun:test";
import { mkdtemp, readdir, rm } from "node:fs/promises";
import { join } from "node:path";
import { createImageStore, type ImageStore } from "../../../../src/daemon/image/store.ts";
import { createKernelStore } from "../../../../src/daemon/kernel/store.ts";
import { systemPaths } from "../../../../src/shared/paths.ts";

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
