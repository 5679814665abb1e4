/** Images on disk: `<imagesDir>/<name>/{rootfs.ext4, manifest.json}`, staged under a temporary name and renamed when whole. */

import { existsSync } from "node:fs";
import { mkdir, open, readFile, rename, rm, stat, writeFile } from "node:fs/promises";
import { join } from "node:path";
import * as v from "valibot";
import { BangerError } from "../../shared/errors.ts";
import type { Paths } from "../../shared/places/paths.ts";
import { ImageRecord, type Leftover } from "../../shared/contract/schemas.ts";
import { type KernelStore, listDeadStaging, listNames, makeStaging } from "../kernel/store.ts";
import { listBuildDirs, removeBuildDir } from "./build-debian.ts";
import { CATALOG } from "./catalog.ts";
import { IDENTITY_UNIT } from "./guest-files.ts";
import { SharedBuilds } from "./shared-builds.ts";
import { fileSource } from "./sources/file.ts";
import { type FilledImage, type ImageRun, type ImageSource, ROOTFS } from "./sources/source.ts";

type Image = ImageRecord;

export interface ImageFiles {
  readonly rootfsPath: string;
  readonly kernelPath: string;
  readonly initrdPath: string | null;
  /** Whether a guest of it takes its keys from the identity disk: false for what an older banger or somebody else built. */
  readonly readsIdentity: boolean;
  /** Whether banger's agent boots the guest: false for a kernel whose own initrd does. */
  readonly hasAgent: boolean;
}

export interface ImageStore {
  /**
   * The image, built first when it isn't there. One build per name at a time: a second asker waits and
   * shares the result; the build is cancelled when nobody waits any more.
   */
  ensure(name: string, run: ImageRun, force?: boolean): Promise<Image>;
  list(): Promise<readonly Image[]>;
  show(name: string): Promise<Image>;
  has(name: string): boolean;
  /** True when the name is there or could be built. */
  isKnown(name: string): boolean;
  register(
    source: { readonly name: string; readonly rootfs: string; readonly kernel: string },
    run: ImageRun,
  ): Promise<Image>;
  delete(name: string): Promise<void>;
  files(name: string, kernel?: string): Promise<ImageFiles>;
  /** Staging and build directories that nothing of this process works in. */
  findLeftovers(): Promise<readonly Leftover[]>;
  /** Removes what {@link ImageStore.findLeftovers} finds. */
  removeLeftovers(): Promise<readonly Leftover[]>;
}

/**
 * `canBuild` false: what isn't there is for somebody else to build, said with IMAGE_NOT_BUILT. The daemon of an installed
 * system has no privilege left to make the namespaces that a build needs; its owner's own commands do.
 */
export function createImageStore(
  paths: Paths,
  kernels: KernelStore,
  { canBuild }: { readonly canBuild: boolean } = { canBuild: true },
): ImageStore {
  const staged = new Set<string>();
  const dir = (name: string): string => join(paths.imagesDir, name);
  const has = (name: string): boolean => existsSync(join(dir(name), "manifest.json"));

  async function show(name: string): Promise<Image> {
    const path = join(dir(name), "manifest.json");
    const text = await readFile(path, "utf8").catch((cause: unknown) => {
      throw new BangerError("IMAGE_NOT_FOUND", `there is no image named ${name}`, { cause });
    });
    try {
      return v.parse(ImageRecord, JSON.parse(text));
    } catch (cause) {
      throw new BangerError("FAILED", `${path} is damaged`, { cause, hint: `banger image build ${name} --force` });
    }
  }

  async function withStaging(work: (staging: string) => Promise<Image>): Promise<Image> {
    await mkdir(paths.imagesDir, { recursive: true, mode: 0o700 });
    const staging = await makeStaging(paths.imagesDir);
    staged.add(staging);
    try {
      return await work(staging);
    } finally {
      await rm(staging, { recursive: true, force: true });
      staged.delete(staging);
    }
  }

  /** Writes the manifest and puts the whole in place, replacing an older one of that name. */
  async function publish(staging: string, record: Image): Promise<Image> {
    const whole = join(staging, "whole");
    await mkdir(whole, { mode: 0o700 });
    await rename(join(staging, ROOTFS), join(whole, ROOTFS));
    const allocatedBytes = await syncFile(join(whole, ROOTFS));
    const complete: Image = { ...record, allocatedBytes };
    await writeFile(join(whole, "manifest.json"), `${JSON.stringify(complete, null, 2)}\n`, {
      mode: 0o600,
      flush: true,
    });
    if (existsSync(dir(record.name))) await rename(dir(record.name), join(staging, "old"));
    await rename(whole, dir(record.name));
    return complete;
  }

  async function digestOf(path: string, signal: AbortSignal): Promise<string> {
    const hash = new Bun.CryptoHasher("sha256");
    for await (const chunk of Bun.file(path).stream()) {
      signal.throwIfAborted();
      hash.update(chunk);
    }
    return `sha256:${hash.digest("hex")}`;
  }

  /** The kernel that an image boots: the store's own, or one that is put there with it. */
  async function keepKernel(
    name: string,
    { kernel, origin }: FilledImage,
    run: ImageRun,
  ): Promise<Pick<Image, "kernel" | "kernelVersion">> {
    if (kernel.kind === "known")
      return { kernel: kernel.name, kernelVersion: (await kernels.show(kernel.name)).version };
    const kernelName = `${name}-${kernel.release}`
      .toLowerCase()
      .replaceAll(/[^a-z0-9._-]/g, "-")
      .slice(0, 64);
    const { image, initrd, release } = kernel;
    await kernels.put({ name: kernelName, image, initrd, source: origin.source }, run);
    return { kernel: kernelName, kernelVersion: release };
  }

  /** Makes an image of a source and keeps it under a name, in place of one that is there. */
  async function put(name: string, source: ImageSource, run: ImageRun): Promise<Image> {
    await source.check?.();
    return await withStaging(async (staging) => {
      const filled = await source.fill(staging, run);
      run.progress({ stage: "image", message: "Computing the digest" });
      const rootfs = join(staging, ROOTFS);
      const digest = await digestOf(rootfs, run.signal);
      return await publish(staging, {
        name,
        ...filled.origin,
        arch: "x86_64",
        digest,
        rootfsBytes: (await stat(rootfs)).size,
        allocatedBytes: 0,
        ...(await keepKernel(name, filled, run)),
        createdAt: new Date().toISOString(),
      });
    });
  }

  const builds = new SharedBuilds(async (name, run) => {
    const source = CATALOG[name];
    if (source === undefined) {
      throw new BangerError("IMAGE_NOT_FOUND", `there is no image named ${name}, not even in the catalog`, {
        details: { catalog: Object.keys(CATALOG) },
      });
    }
    if (!canBuild)
      throw new BangerError("IMAGE_NOT_BUILT", `${name} is not built yet`, {
        details: { image: name },
        hint: `banger image build ${name}`,
      });
    return await put(name, source, run);
  });

  async function findLeftovers(): Promise<readonly Leftover[]> {
    const staging = listDeadStaging(await listNames(paths.imagesDir, true)).map(dir);
    const left = [
      ...staging.filter((path) => !staged.has(path)),
      ...(await kernels.findLeftovers()),
      ...(await listBuildDirs(paths.imagesDir)),
    ];
    return left.map((what) => ({ kind: "directory", what }));
  }

  return {
    ensure: async (name, run, force = false) => {
      if (!force && !builds.has(name) && has(name)) return await show(name);
      return await builds.run(name, run);
    },
    list: async () => {
      return await Promise.all((await listNames(paths.imagesDir)).filter(has).map(show));
    },
    show,
    has,
    isKnown: (name) => has(name) || CATALOG[name] !== undefined,
    register: async ({ name, rootfs, kernel }, run) => {
      if (has(name))
        throw new BangerError("ALREADY_EXISTS", `an image named ${name} already exists`, {
          hint: `banger image delete ${name}`,
        });
      return await put(name, fileSource({ rootfs, kernel }, kernels), run);
    },
    delete: async (name) => {
      const { kernel } = await show(name);
      await rm(dir(name), { recursive: true, force: true });
      // A built image's kernel came with it and goes with it, unless another image was registered with it.
      if (kernel?.startsWith(`${name}-`) !== true || !kernels.has(kernel)) return;
      const others = await Promise.all((await listNames(paths.imagesDir)).filter(has).map(show));
      if (!others.some((image) => image.kernel === kernel)) await kernels.delete(kernel);
    },
    files: async (name, kernelName) => {
      const image = await show(name);
      const kernel = kernelName ?? image.kernel;
      if (kernel === null) throw new BangerError("KERNEL_NOT_FOUND", `the image ${name} has no kernel`);
      return {
        rootfsPath: join(dir(name), ROOTFS),
        ...(await kernels.bootFiles(kernel)),
        readsIdentity: image.units.includes(IDENTITY_UNIT),
      };
    },
    findLeftovers,
    removeLeftovers: async () => {
      const found = await findLeftovers();
      for (const { what } of found) await removeBuildDir(what);
      return found;
    },
  };
}

/** Forces a file to disk, so that the rename that publishes it never shows an empty one. Returns its allocated bytes. */
async function syncFile(path: string): Promise<number> {
  await using file = await open(path, "r");
  await file.sync();
  return (await file.stat()).blocks * 512;
}
