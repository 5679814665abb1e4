/** Finds a kernel in what `kernel import --from` names: a file, a Debian package, or a directory. */

import { lstat, mkdtemp, open, readdir, readFile, realpath, stat } from "node:fs/promises";
import { join } from "node:path";
import { BangerError } from "../../shared/errors.ts";
import { tryTool } from "../host/run-tool.ts";
import { isBzImage, isElf, KERNEL_LIMIT_BYTES } from "./extract.ts";

export interface KernelSource {
  /** A vmlinux or bzImage, not looked into yet. */
  readonly image: Uint8Array;
  readonly config: string | null;
  readonly initrdPath: string | null;
}

const TOOL_TIMEOUT_MS = 120_000;
/** xz with a large dictionary, in several threads. */
const UNPACK_MEMORY_BYTES = 4 * 1024 ** 3;
const AR_MAGIC = "!<arch>\n";
const CONFIG_LIMIT_BYTES = 4 * 1024 ** 2;

/**
 * @param workDir private directory of ours for what a package holds.
 * @throws BangerError KERNEL_INVALID, TOOL_MISSING.
 */
export async function readKernelSource(from: string, workDir: string, signal: AbortSignal): Promise<KernelSource> {
  const info = await stat(from).catch((cause: unknown) => {
    throw new BangerError("KERNEL_INVALID", `${from} can't be read`, { cause });
  });
  if (info.isDirectory()) return await readDirectory(from);
  if (!info.isFile()) throw new BangerError("KERNEL_INVALID", `${from} is neither a file nor a directory`);
  const start = await readStart(from, 4096);
  if (start.toString("latin1", 0, AR_MAGIC.length) === AR_MAGIC) return await readPackage(from, workDir, signal);
  if (!isElf(start) && !isBzImage(start)) {
    throw new BangerError("KERNEL_INVALID", `${from} is neither a vmlinux, nor a bzImage, nor a Debian package`);
  }
  return { image: await readBounded(from), config: null, initrdPath: null };
}

async function readDirectory(directory: string): Promise<KernelSource> {
  const names = await readdir(directory);
  const first = (...patterns: readonly RegExp[]): string | null => {
    for (const pattern of patterns) {
      const fitting = names.filter((name) => pattern.test(name)).sort();
      if (fitting.length > 1) {
        throw new BangerError("KERNEL_INVALID", `${directory} contains several kernels: ${fitting.join(", ")}`, {
          hint: "name the file itself with --from",
        });
      }
      if (fitting[0] !== undefined) return join(directory, fitting[0]);
    }
    return null;
  };
  const image = first(/^vmlinux$/, /^vmlinux-/, /^vmlinuz$/, /^vmlinuz-/, /^bzImage$/);
  if (image === null) throw new BangerError("KERNEL_INVALID", `${directory} contains neither vmlinux nor vmlinuz`);
  const config = first(/^config$/, /^config-/);
  return {
    image: await readBounded(image),
    config: config === null ? null : (await readStart(config, CONFIG_LIMIT_BYTES)).toString("utf8"),
    initrdPath: first(/^initrd$/, /^initrd\.img$/, /^initrd[.-]/, /^initramfs/),
  };
}

/** Debian packages are unpacked whole, as the user, into a directory of ours. */
async function readPackage(path: string, workDir: string, signal: AbortSignal): Promise<KernelSource> {
  const unpacked = await mkdtemp(join(workDir, "deb-"));
  const real = await realpath(path);
  const result = await tryTool(["dpkg-deb", "--extract", real, unpacked], {
    timeoutMs: TOOL_TIMEOUT_MS,
    signal,
    // dpkg-deb, tar, and threads that decompress.
    confined: { reads: [real], writes: [unpacked], processes: 32, memoryBytes: UNPACK_MEMORY_BYTES },
  });
  if (result.exitCode !== 0)
    throw new BangerError("KERNEL_INVALID", `${path} is not a valid Debian package: ${result.stderr.trim()}`);
  const boot = join(unpacked, "boot");
  const info = await lstat(boot).catch(() => null);
  if (info === null || !info.isDirectory()) {
    throw new BangerError("KERNEL_INVALID", `${path} contains no boot/vmlinuz-*`, {
      hint: "use the package linux-image-<version>, not a metapackage",
    });
  }
  return await readDirectory(boot);
}

async function readStart(path: string, bytes: number): Promise<Buffer> {
  await using file = await open(path, "r");
  const buffer = Buffer.alloc(Math.min(bytes, (await file.stat()).size));
  const { bytesRead } = await file.read(buffer, 0, buffer.length, 0);
  return buffer.subarray(0, bytesRead);
}

async function readBounded(path: string): Promise<Uint8Array> {
  const info = await stat(path);
  if (!info.isFile()) throw new BangerError("KERNEL_INVALID", `${path} is not a file`);
  const { size } = info;
  if (size > KERNEL_LIMIT_BYTES)
    throw new BangerError("KERNEL_INVALID", `${path} is larger than any kernel (${size} bytes)`);
  return await readFile(path);
}
