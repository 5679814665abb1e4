import { afterEach, beforeEach, expect, test } from "bun:test";
import { mkdir, mkdtemp, readdir, readFile, rm, truncate, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { fileSource } from "../../../../../src/daemon/image/sources/file.ts";
import { createImageStore } from "../../../../../src/daemon/image/store.ts";
import { createKernelStore, type KernelStore } from "../../../../../src/daemon/kernel/store.ts";
import { runTool } from "../../../../../src/daemon/host/run-tool.ts";
import { systemPaths } from "../../../../../src/shared/places/paths.ts";

const ROOTFS_BYTES = 4 * 1024 ** 2;
const run = { signal: new AbortController().signal, progress: () => undefined };
const digest = (bytes: Uint8Array): string => `sha256:${new Bun.CryptoHasher("sha256").update(bytes).digest("hex")}`;

let root: string;
let rootfs: string;
let kernels: KernelStore;
beforeEach(async () => {
  root = await mkdtemp("/tmp/bt-if-");
  const paths = systemPaths(root);
  kernels = createKernelStore(paths);
  const kernel = {
    name: "k",
    version: "6.12.1",
    arch: "x86_64",
    source: "test",
    digest: `sha256:${"0".repeat(64)}`,
    bytes: 1,
    hasInitrd: false,
    createdAt: "2026-01-02T03:04:05.678Z",
  };
  await Bun.write(join(paths.kernelsDir, "k/manifest.json"), JSON.stringify(kernel));
  rootfs = join(root, "mine.ext4");
  await writeFile(rootfs, "");
  await truncate(rootfs, ROOTFS_BYTES);
  await runTool(["mkfs.ext4", "-q", "-F", rootfs], { timeoutMs: 30_000 });
});
afterEach(async () => await rm(root, { recursive: true, force: true }));

test("a clean file system is copied whole; where it came from is told, and the file stays as it was", async () => {
  const before = await readFile(rootfs);
  const staging = join(root, "staging");
  await mkdir(staging);
  const source = fileSource({ rootfs, kernel: "k" }, kernels);
  await source.check?.();
  expect(await source.fill(staging, run)).toEqual({
    origin: { distro: "unknown", release: "unknown", source: rootfs, builtBy: "registered", units: [] },
    kernel: { kind: "known", name: "k" },
  });
  expect(await readdir(staging)).toEqual(["rootfs.ext4"]);
  expect(await readFile(join(staging, "rootfs.ext4"))).toEqual(before);
  expect(await readFile(rootfs)).toEqual(before);
});

test("the store keeps it under its name, with its digest and kernel, once", async () => {
  const images = createImageStore(systemPaths(root), kernels, { canBuild: false });
  const image = await images.register({ name: "mine", rootfs, kernel: "k" }, run);
  expect(image).toEqual({
    name: "mine",
    distro: "unknown",
    release: "unknown",
    arch: "x86_64",
    source: rootfs,
    digest: digest(await readFile(rootfs)),
    rootfsBytes: ROOTFS_BYTES,
    allocatedBytes: image.allocatedBytes,
    kernel: "k",
    kernelVersion: "6.12.1",
    createdAt: image.createdAt,
    builtBy: "registered",
    units: [],
  });
  expect(image.allocatedBytes).toBeGreaterThan(0);
  expect(await images.list()).toEqual([image]);
  expect(await images.findLeftovers()).toEqual([]);
  await expect(images.register({ name: "mine", rootfs, kernel: "k" }, run)).rejects.toMatchObject({
    code: "ALREADY_EXISTS",
  });
  await images.delete("mine");
  expect(kernels.has("k")).toBe(true);
});

test.each([
  ["a kernel that isn't there", { kernel: "none" }, "KERNEL_NOT_FOUND"],
  ["a file that isn't there", { rootfs: "/nonexistent/rootfs.ext4" }, "INVALID_VALUE"],
  ["a directory", { rootfs: "/tmp" }, "INVALID_VALUE"],
])("%s is refused before anything is made", async (_, wrong, code) => {
  const images = createImageStore(systemPaths(root), kernels, { canBuild: false });
  await expect(images.register({ name: "mine", rootfs, kernel: "k", ...wrong }, run)).rejects.toMatchObject({ code });
  expect(await readdir(systemPaths(root).imagesDir).catch(() => "none")).toBe("none");
});

test("what is no file system is refused, and nothing of it is kept", async () => {
  await writeFile(rootfs, "text");
  const images = createImageStore(systemPaths(root), kernels, { canBuild: false });
  await expect(images.register({ name: "mine", rootfs, kernel: "k" }, run)).rejects.toMatchObject({
    code: "INVALID_VALUE",
    message: expect.stringContaining("is not a clean ext4 file system"),
  });
  expect(await readdir(systemPaths(root).imagesDir)).toEqual([]);
});
