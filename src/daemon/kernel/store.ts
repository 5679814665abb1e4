/**
 * Kernels on disk: `<kernelsDir>/<name>/{vmlinux, initrd.img?, initrd.base.img?, manifest.json}`, staged under a temporary name and renamed
 * when whole. Of the two initrds, see agent-archive.ts.
 */

import { existsSync } from "node:fs";
import { mkdir, mkdtemp, readdir, readFile, rename, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import * as v from "valibot";
import type { Progress } from "../../shared/contract/owner-api.ts";
import { BangerError, isErrno } from "../../shared/errors.ts";
import { readAgentBinary } from "../../shared/agent/binary.ts";
import type { Paths } from "../../shared/places/paths.ts";
import { KernelRecord } from "../../shared/contract/schemas.ts";
import { ensureAgent, INITRD } from "./agent-archive.ts";
import { checkKernelConfig } from "./check-config.ts";
import { decompressByTool } from "./decompress.ts";
import { extractKernel, findKernelRelease } from "./extract.ts";
import { readKernelSource } from "./read-source.ts";

const STAGING_PREFIX = ".staging-";

/** Makes a directory for something unfinished; its name says which process works in it. */
export async function makeStaging(parent: string): Promise<string> {
  return await mkdtemp(join(parent, `${STAGING_PREFIX}${process.pid}-`));
}

/** Names of staging directories in which no other live process works. */
export function listDeadStaging(names: readonly string[]): readonly string[] {
  return names.filter((name) => {
    if (!name.startsWith(STAGING_PREFIX)) return false;
    const pid = Number(/^(\d+)-/.exec(name.slice(STAGING_PREFIX.length))?.[1] ?? 0);
    return pid === process.pid || pid === 0 || !existsSync(`/proc/${pid}`);
  });
}

export interface KernelRun {
  readonly signal: AbortSignal;
  progress(progress: Progress): void;
}

/** A kernel as bytes: what an image's build hands over. */
export interface KernelParts {
  readonly name: string;
  /** vmlinux or bzImage. */
  readonly image: Uint8Array;
  readonly initrd: Uint8Array | null;
  /** Where it came from, for the record. */
  readonly source: string;
}

export interface BootFiles {
  readonly kernelPath: string;
  /** With this banger's agent in it. */
  readonly initrdPath: string;
  /** Whether that agent boots the guest: false for a kernel whose own initrd does. */
  readonly hasAgent: boolean;
}

export interface KernelStore {
  list(): Promise<readonly KernelRecord[]>;
  /** Raises KERNEL_NOT_FOUND. */
  show(name: string): Promise<KernelRecord>;
  has(name: string): boolean;
  /** What a guest boots with. Raises KERNEL_NOT_FOUND. */
  bootFiles(name: string): Promise<BootFiles>;
  /** Puts a kernel of this host (vmlinux, bzImage, .deb, or a directory holding one) under a new name. Raises ALREADY_EXISTS, KERNEL_INVALID. */
  import(
    source: { readonly name: string; readonly from: string; readonly initrd?: string | undefined },
    run: KernelRun,
  ): Promise<KernelRecord>;
  /** Puts a kernel under a name, in place of one that is there. */
  put(parts: KernelParts, run: KernelRun): Promise<KernelRecord>;
  /** Raises KERNEL_NOT_FOUND. Whether an image uses it is for the caller to know. */
  delete(name: string): Promise<void>;
  /** Staging directories that nothing of this process works in. */
  findLeftovers(): Promise<readonly string[]>;
}

export function createKernelStore(paths: Paths, readAgent: () => Promise<Uint8Array> = readAgentBinary): KernelStore {
  const staged = new Set<string>();
  const dir = (name: string): string => join(paths.kernelsDir, name);
  const manifest = (name: string): string => join(dir(name), "manifest.json");

  async function show(name: string): Promise<KernelRecord> {
    const text = await readFile(manifest(name), "utf8").catch((cause: unknown) => {
      throw new BangerError("KERNEL_NOT_FOUND", `there is no kernel named ${name}`, { cause });
    });
    return parseManifest(text, manifest(name));
  }

  async function withStaging<T>(work: (staging: string) => Promise<T>): Promise<T> {
    await mkdir(paths.kernelsDir, { recursive: true, mode: 0o700 });
    const staging = await makeStaging(paths.kernelsDir);
    staged.add(staging);
    try {
      return await work(staging);
    } finally {
      await rm(staging, { recursive: true, force: true });
      staged.delete(staging);
    }
  }

  async function publish(
    staging: string,
    { name, image, initrd, source }: KernelParts,
    { signal, progress }: KernelRun,
  ): Promise<KernelRecord> {
    progress({ stage: "kernel", message: "Extracting the kernel" });
    const elf = await extractKernel(image, (compression, bytes, limitBytes) =>
      decompressByTool(compression, bytes, limitBytes, signal),
    );
    signal.throwIfAborted();
    const whole = join(staging, "whole");
    await mkdir(whole, { mode: 0o700 });
    await writeFile(join(whole, "vmlinux"), elf, { mode: 0o600, flush: true });
    if (initrd !== null) await writeFile(join(whole, INITRD), initrd, { mode: 0o600, flush: true });
    const record: KernelRecord = {
      name,
      version: findKernelRelease(elf),
      arch: "x86_64",
      source,
      digest: `sha256:${new Bun.CryptoHasher("sha256").update(elf).digest("hex")}`,
      bytes: elf.length,
      hasInitrd: initrd !== null,
      createdAt: new Date().toISOString(),
    };
    await writeFile(join(whole, "manifest.json"), `${JSON.stringify(record, null, 2)}\n`, { mode: 0o600, flush: true });
    if (existsSync(dir(name))) await rename(dir(name), join(staging, "old"));
    await rename(whole, dir(name));
    return record;
  }

  return {
    show,
    has: (name) => existsSync(manifest(name)),
    list: async () => {
      const names = (await listNames(paths.kernelsDir)).filter((name) => existsSync(manifest(name)));
      return await Promise.all(names.map(show));
    },
    bootFiles: async (name) => {
      await show(name);
      const agent = await readAgent();
      try {
        const hasAgent = await ensureAgent(dir(name), agent, withStaging);
        return { kernelPath: join(dir(name), "vmlinux"), initrdPath: join(dir(name), INITRD), hasAgent };
      } catch (cause) {
        if (!isErrno(cause, "ENOENT")) throw cause;
        throw new BangerError("KERNEL_NOT_FOUND", `the kernel ${name} was just removed or replaced`, {
          cause,
          hint: "try again",
        });
      }
    },
    import: async ({ name, from, initrd }, run) => {
      if (existsSync(dir(name)))
        throw new BangerError("ALREADY_EXISTS", `a kernel named ${name} already exists`, {
          hint: `banger kernel rm ${name}`,
        });
      return await withStaging(async (staging) => {
        run.progress({ stage: "kernel", message: `Reading ${from}` });
        const source = await readKernelSource(from, staging, run.signal);
        const findings = source.config === null ? null : checkKernelConfig(source.config);
        if (findings !== null && findings.missing.length > 0) {
          throw new BangerError(
            "KERNEL_INVALID",
            `this kernel is built without ${findings.missing.join(", ")}, which a guest needs`,
            { details: { ...findings } },
          );
        }
        const initrdPath = initrd ?? source.initrdPath;
        if (initrdPath === null && findings !== null && findings.modules.length > 0) {
          throw new BangerError(
            "KERNEL_INVALID",
            `this kernel has ${findings.modules.join(", ")} as modules, so it needs an initrd that loads them`,
            {
              hint: `banger kernel import ${name} --from ${from} --initrd FILE`,
              details: { ...findings },
            },
          );
        }
        const initrdBytes = initrdPath === null ? null : await readInitrd(initrdPath);
        return await publish(staging, { name, image: source.image, initrd: initrdBytes, source: from }, run);
      });
    },
    put: async (parts, run) => await withStaging((staging) => publish(staging, parts, run)),
    delete: async (name) => {
      await show(name);
      await rm(dir(name), { recursive: true, force: true });
    },
    findLeftovers: async () => {
      const names = await listNames(paths.kernelsDir, true);
      return listDeadStaging(names)
        .map(dir)
        .filter((path) => !staged.has(path));
    },
  };
}

/** Names in a directory that may not be there yet; hidden ones only when asked for. */
export async function listNames(directory: string, hidden = false): Promise<readonly string[]> {
  if (!existsSync(directory)) return [];
  return (await readdir(directory)).filter((name) => hidden || !name.startsWith(".")).toSorted();
}

async function readInitrd(path: string): Promise<Uint8Array> {
  return await readFile(path).catch((cause: unknown) => {
    throw new BangerError("KERNEL_INVALID", `the initrd ${path} can't be read`, { cause });
  });
}

function parseManifest(text: string, path: string): KernelRecord {
  try {
    return v.parse(KernelRecord, JSON.parse(text));
  } catch (cause) {
    throw new BangerError("FAILED", `${path} is damaged`, {
      cause,
      hint: `rm -r ${path.slice(0, path.lastIndexOf("/"))}`,
    });
  }
}
