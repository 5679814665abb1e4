/** The Firecracker of install.toml, found safe to run as root, and what it needs inside a jail. */

import { constants, readSync } from "node:fs";
import { dirname, join } from "node:path";
import { BangerError, isErrno } from "../shared/errors.ts";
import type { HelperContext } from "./context.ts";
import { enforce, rootsDirectory, rootsProgram } from "./gates.ts";
import { type Descriptor, openRoot } from "./sys/descriptors.ts";

export interface FirecrackerFiles {
  readonly version: string;
  readonly firecracker: string;
  readonly jailer: string;
}

/**
 * Every directory from `/` down, then the two programs, each through its descriptor. When all of them are root's and
 * nobody else's to write, the names can't be exchanged by the owner, so the paths may be used.
 * @throws BangerError HELPER_REFUSED, HOST_UNSUPPORTED when none is installed.
 */
export function resolveFirecracker({ install }: HelperContext): FirecrackerFiles {
  if (install.firecracker === undefined) {
    throw new BangerError("HOST_UNSUPPORTED", "no Firecracker is installed", { hint: "banger system install" });
  }
  const { directory, version } = install.firecracker;
  try {
    using opened = openTrustedDirectory(directory);
    for (const name of ["firecracker", "jailer"]) {
      using file = opened.openPath(name);
      enforce(rootsProgram, { file: { ...file.stat(), label: join(directory, name) } });
    }
  } catch (thrown) {
    if (isErrno(thrown, "ENOENT")) {
      throw new BangerError("HOST_UNSUPPORTED", `Firecracker ${version} is not in ${directory}`, { cause: thrown });
    }
    if (isErrno(thrown, "ELOOP") || isErrno(thrown, "ENOTDIR")) {
      throw new BangerError("HELPER_REFUSED", `${directory} leads through a link`, { cause: thrown });
    }
    throw thrown;
  }
  return { version, firecracker: join(directory, "firecracker"), jailer: join(directory, "jailer") };
}

/** @throws BangerError HELPER_REFUSED when a directory on the way is writable by others than root. */
function openTrustedDirectory(path: string): Descriptor {
  for (let parent = path; ; parent = dirname(parent)) {
    using directory = openRoot(parent);
    enforce(rootsDirectory, { directory: { ...directory.stat(), label: parent } });
    if (parent === "/") break;
  }
  return openRoot(path);
}

const PT_INTERP = 3;

/**
 * The program interpreter an ELF file names (`/lib64/ld-linux-x86-64.so.2`), null when it is static or not ELF64.
 * Pure. Source: elf(5).
 */
export function findInterpreter(elf: Uint8Array): string | null {
  const view = new DataView(elf.buffer, elf.byteOffset, elf.byteLength);
  if (elf.length < 64 || view.getUint32(0) !== 0x7f454c46 || elf[4] !== 2 || elf[5] !== 1) return null;
  const offset = Number(view.getBigUint64(32, true));
  const size = view.getUint16(54, true);
  for (let index = 0; index < view.getUint16(56, true); index++) {
    const at = offset + index * size;
    if (at + 56 > elf.length) return null;
    if (view.getUint32(at, true) !== PT_INTERP) continue;
    const from = Number(view.getBigUint64(at + 8, true));
    const text = new TextDecoder().decode(elf.subarray(from, from + Number(view.getBigUint64(at + 32, true))));
    return text.replace(/\0.*$/s, "");
  }
  return null;
}

/** Libraries of a dynamically linked program, as its own loader lists them: name wanted → file found. Pure. */
export function parseLoaderList(text: string): readonly string[] {
  return text.split("\n").flatMap((line) => /(?:=> |^\s*)(\/\S+) \(0x[0-9a-f]+\)$/.exec(line)?.[1] ?? []);
}

const HEAD_BYTES = 4096;

/**
 * Files a dynamically linked Firecracker needs inside its jail; empty for the official, static releases. They are
 * copied, not bound: a mount would be one more thing to undo, in a namespace that ends with this process.
 */
export async function listLibraries(program: string): Promise<readonly string[]> {
  using directory = openTrustedDirectory(dirname(program));
  using file = directory.open("firecracker", constants.O_RDONLY | constants.O_NOFOLLOW);
  const head = new Uint8Array(HEAD_BYTES);
  const interpreter = findInterpreter(head.subarray(0, readSync(file.fd, head)));
  if (interpreter === null) return [];
  const child = Bun.spawn([interpreter, "--list", program], {
    stdin: "ignore",
    stdout: "pipe",
    stderr: "ignore",
    env: {},
    timeout: 10_000,
  });
  const [text, exitCode] = await Promise.all([new Response(child.stdout).text(), child.exited]);
  if (exitCode !== 0) throw new BangerError("FAILED", `${interpreter} --list ended with ${exitCode}`);
  return [...new Set([interpreter, ...parseLoaderList(text)])];
}
