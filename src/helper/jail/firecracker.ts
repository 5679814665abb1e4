/** Finds the Firecracker named in install.toml and checks that it is safe to run as root. */

import { constants, readSync } from "node:fs";
import { basename, dirname, join } from "node:path";
import { BangerError, isErrno } from "../../shared/errors.ts";
import { ELF_HEAD_BYTES, isStaticElf } from "../../shared/elf.ts";
import type { HelperContext } from "../context.ts";
import { enforce, programIsStatic, rootsDirectory, rootsProgram } from "../gates.ts";
import { type Descriptor, openRoot } from "../sys/descriptors.ts";

export interface FirecrackerFiles {
  readonly version: string;
  /** Size of the `firecracker` program. */
  readonly bytes: number;
  readonly firecracker: string;
  readonly jailer: string;
}

/**
 * Checks every directory from `/` down, then both programs, each through its descriptor. If only root can write all of
 * them, the owner can't swap a name, so the paths are safe to use.
 * @throws BangerError HELPER_REFUSED; HOST_UNSUPPORTED if none is installed
 */
export function resolveFirecracker({ install }: HelperContext): FirecrackerFiles {
  if (install.firecracker === undefined) {
    throw new BangerError("HOST_UNSUPPORTED", "no Firecracker is installed", { hint: "banger system install" });
  }
  const { directory, version } = install.firecracker;
  const [firecracker, jailer] = [join(directory, "firecracker"), join(directory, "jailer")];
  try {
    using opened = openTrustedDirectory(directory);
    for (const path of [firecracker, jailer]) {
      using file = opened.openPath(basename(path));
      enforce(rootsProgram, { file: { ...file.stat(), label: path } });
    }
    using file = opened.open(basename(firecracker), constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
    const head = new Uint8Array(ELF_HEAD_BYTES);
    const isStatic = isStaticElf(head.subarray(0, readSync(file.fd, head)));
    enforce(programIsStatic, { label: firecracker, isStatic });
    return { version, bytes: file.stat().bytes, firecracker, jailer };
  } catch (thrown) {
    if (isErrno(thrown, "ENOENT")) {
      throw new BangerError("HOST_UNSUPPORTED", `Firecracker ${version} is not in ${directory}`, { cause: thrown });
    }
    if (isErrno(thrown, "ELOOP") || isErrno(thrown, "ENOTDIR")) {
      throw new BangerError("HELPER_REFUSED", `${directory} leads through a link`, { cause: thrown });
    }
    throw thrown;
  }
}

/** @throws BangerError HELPER_REFUSED if anyone but root can write a directory on the path */
function openTrustedDirectory(path: string): Descriptor {
  for (let parent = path; ; parent = dirname(parent)) {
    using directory = openRoot(parent);
    enforce(rootsDirectory, { directory: { ...directory.stat(), label: parent } });
    if (parent === "/") break;
  }
  return openRoot(path);
}
