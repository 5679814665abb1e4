/** Images on disk: `<imagesDir>/<name>/{rootfs.ext4, manifest.json}`, staged under a temporary name and renamed when whole. */

import { existsSync } from "node:fs";
import { mkdir, open, readFile, rename, rm, stat, writeFile } from "node:fs/promises";
import { join } from "node:path";
import * as v from "valibot";
import type { Progress } from "../../shared/contract/owner-api.ts";
import { BangerError } from "../../shared/errors.ts";
import type { Paths } from "../../shared/places/paths.ts";
import { ImageRecord, type Leftover } from "../../shared/contract/schemas.ts";
import { makeInitrd } from "../kernel/make-initrd.ts";
import { type KernelStore, listDeadStaging, listNames, makeStaging } from "../kernel/store.ts";
import { confinementNote, runTool } from "../host/run-tool.ts";
import { buildDebian, listBuildDirs, removeBuildDir } from "./build-debian.ts";
import { CATALOG } from "./catalog.ts";
import { IDENTITY_UNIT, UNIT_NAMES } from "./guest-files.ts";

type Image = ImageRecord;

interface Run {
  readonly signal: AbortSignal;
  progress(p: Progress): void;
}

/** A build under way and those who wait for it. */
interface Build {
  readonly result: Promise<Image>;
  readonly abort: AbortController;
  readonly listeners: Set<Run>;
}

export interface ImageFiles {
  readonly rootfsPath: string;
  readonly kernelPath: string;
  readonly initrdPath: string | null;
  /** Whether a guest of it takes its keys from the identity disk: false for what an older banger or somebody else built. */
  readonly readsIdentity: boolean;
}

export interface ImageStore {
  /**
   * The image, built first when it isn't there. One build per name at a time: a second asker waits and
   * shares the result; the build is cancelled when nobody waits any more.
   */
  ensure(name: string, run: Run, force?: boolean): Promise<Image>;
  list(): Promise<readonly Image[]>;
  show(name: string): Promise<Image>;
  has(name: string): boolean;
  /** True when the name is there or could be built. */
  isKnown(name: string): boolean;
  register(
    source: { readonly name: string; readonly rootfs: string; readonly kernel: string },
    run: Run,
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
  const builds = new Map<string, Build>();
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
    await rename(join(staging, "rootfs.ext4"), join(whole, "rootfs.ext4"));
    const allocatedBytes = await syncFile(join(whole, "rootfs.ext4"));
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

  async function build(name: string, { signal, progress }: Run): Promise<Image> {
    const recipe = CATALOG[name];
    if (recipe === undefined) {
      throw new BangerError("IMAGE_NOT_FOUND", `there is no image named ${name}, and the catalog can't build one`, {
        details: { catalog: Object.keys(CATALOG) },
      });
    }
    if (!canBuild)
      throw new BangerError("IMAGE_NOT_BUILT", `${name} is not built yet`, {
        details: { image: name },
        hint: `banger image build ${name}`,
      });
    return await withStaging(async (staging) => {
      const built = await buildDebian(recipe, staging, { signal, progress });
      progress({ stage: "image", message: "taking the digest" });
      const digest = await digestOf(built.rootfsPath, signal);
      const kernel = `${name}-${built.kernelRelease}`
        .toLowerCase()
        .replaceAll(/[^a-z0-9._-]/g, "-")
        .slice(0, 64);
      await kernels.put(
        { name: kernel, image: built.kernelImage, initrd: makeInitrd(built), source: recipe.archive },
        { signal, progress },
      );
      return await publish(staging, {
        name,
        distro: "debian",
        release: recipe.suite,
        arch: "x86_64",
        source: recipe.archive,
        digest,
        rootfsBytes: (await stat(built.rootfsPath)).size,
        allocatedBytes: 0,
        kernel,
        kernelVersion: built.kernelRelease,
        createdAt: new Date().toISOString(),
        builtBy: built.builtBy,
        units: [...UNIT_NAMES],
      });
    });
  }

  /** Joins the build of a name, or starts it. The asker counts as waiting from here on. */
  async function joinBuild(name: string, run: Run): Promise<Build> {
    for (let running = builds.get(name); running !== undefined; running = builds.get(name)) {
      if (!running.abort.signal.aborted) {
        running.listeners.add(run);
        return running;
      }
      // Everybody gave up on that one: it is on its way out, and this asker needs one of its own.
      await running.result.catch(() => undefined);
    }
    const abort = new AbortController();
    const listeners = new Set<Run>([run]);
    const progress = (p: Progress): void => {
      for (const listener of listeners) listener.progress(p);
    };
    const result = build(name, { signal: abort.signal, progress }).finally(() => builds.delete(name));
    // Each asker awaits its own race; when all of them were cancelled nobody is left to hear of the end.
    result.catch(() => undefined);
    const started: Build = { result, abort, listeners };
    builds.set(name, started);
    return started;
  }

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
      const shared = await joinBuild(name, run);
      try {
        return await abortable(shared.result, run.signal);
      } finally {
        shared.listeners.delete(run);
        if (shared.listeners.size === 0 && builds.get(name) === shared) {
          shared.abort.abort(run.signal.reason);
          // The staging directory is gone when the build has ended; a cancel that returned earlier would leak it for a moment.
          await shared.result.catch(() => undefined);
        }
      }
    },
    list: async () => {
      return await Promise.all((await listNames(paths.imagesDir)).filter(has).map(show));
    },
    show,
    has,
    isKnown: (name) => has(name) || CATALOG[name] !== undefined,
    register: async ({ name, rootfs, kernel }, { signal, progress }) => {
      if (has(name))
        throw new BangerError("ALREADY_EXISTS", `an image named ${name} exists already`, {
          hint: `banger image delete ${name}`,
        });
      await kernels.show(kernel);
      const info = await stat(rootfs).catch(() => null);
      if (info === null || !info.isFile()) throw new BangerError("INVALID_VALUE", `${rootfs} is not a file`);
      return await withStaging(async (staging) => {
        progress({ stage: "image", message: `copying ${rootfs}` });
        const target = join(staging, "rootfs.ext4");
        await runTool(["cp", "--sparse=always", "--reflink=auto", "--", rootfs, target], {
          timeoutMs: 30 * 60_000,
          signal,
        });
        progress({ stage: "image", message: `checking the file system${await confinementNote()}` });
        await runTool(["e2fsck", "-fn", target], {
          timeoutMs: 120_000,
          signal,
          confined: { reads: [target] },
        }).catch((thrown: unknown) => {
          if (!(thrown instanceof BangerError) || thrown.code !== "FAILED") throw thrown;
          throw new BangerError("INVALID_VALUE", `${rootfs} is not a clean ext4 file system: ${thrown.message}`);
        });
        return await publish(staging, {
          name,
          distro: "unknown",
          release: "unknown",
          arch: "x86_64",
          source: rootfs,
          digest: await digestOf(target, signal),
          rootfsBytes: info.size,
          allocatedBytes: 0,
          kernel,
          kernelVersion: (await kernels.show(kernel)).version,
          createdAt: new Date().toISOString(),
          builtBy: "registered",
          units: [],
        });
      });
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
      await kernels.show(kernel);
      return {
        rootfsPath: join(dir(name), "rootfs.ext4"),
        ...kernels.paths(kernel),
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

/** The promise's result, or the abort, whichever comes first. */
async function abortable<T>(promise: Promise<T>, signal: AbortSignal): Promise<T> {
  signal.throwIfAborted();
  const { promise: aborted, reject } = Promise.withResolvers<never>();
  const onAbort = (): void => reject(signal.reason);
  signal.addEventListener("abort", onAbort, { once: true });
  try {
    return await Promise.race([promise, aborted]);
  } finally {
    signal.removeEventListener("abort", onAbort);
  }
}
