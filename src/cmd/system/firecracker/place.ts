/**
 * Firecracker and its jailer, side by side per version, root's: a directory's, PATH's, or the pinned release. They are
 * copied first and looked at afterwards, so what was checked is what stays.
 */

import { constants } from "node:fs";
import { access, mkdir, mkdtemp, readdir, readFile, rename, rm, rmdir, stat, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { BangerError, isErrno } from "../../../shared/errors.ts";
import type { InstallConfig } from "../../../shared/install-config.ts";
import { ELF_HEAD_BYTES, isStaticElf } from "../../../shared/elf.ts";
import { downloadRelease } from "./download-release.ts";
import { type PinnedRelease, parseVersion, whyUnsafe } from "./release.ts";
import { checkRootOnly, ensureDirectory, makeRootExecutable, placeFile } from "../place.ts";
import { runRootTool, tryRootTool } from "../host/root-tool.ts";

export const FIRECRACKER_DIR = "/usr/local/lib/banger/firecracker";
const PROGRAMS = ["firecracker", "jailer"] as const;
const SEARCHED = ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"];
const TOOL_TIMEOUT_MS = 60_000;

export type Installed = NonNullable<InstallConfig["firecracker"]>;

/** Where both programs are, of directories that only root may write; null when nowhere. Sudo's own PATH isn't asked. */
export async function findInSystem(directories: readonly string[] = SEARCHED): Promise<string | null> {
  for (const directory of directories) {
    const there = await Promise.all(
      PROGRAMS.map((name) =>
        access(join(directory, name), constants.X_OK).then(
          () => true,
          () => false,
        ),
      ),
    );
    if (!there.every(Boolean)) continue;
    await checkRootOnly(directory);
    return directory;
  }
  return null;
}

/**
 * Takes the programs of a directory.
 * @throws BangerError TOOL_MISSING when one isn't there, HOST_UNSUPPORTED for a version that is unsafe or that differs
 */
export async function placeFromDirectory(directory: string): Promise<Installed> {
  return await withStaging(async (staging) => {
    for (const name of PROGRAMS) {
      const from = join(directory, name);
      const info = await stat(from).catch(() => null);
      if (info === null || !info.isFile()) {
        throw new BangerError("TOOL_MISSING", `${directory} contains no ${name}`, {
          hint: "name a directory with firecracker and jailer: --firecracker-dir DIR",
          details: { program: name },
        });
      }
      await writeFile(join(staging, name), await readFile(from), { mode: 0o700, flag: "wx" });
    }
    return await placeStaged(staging);
  });
}

/**
 * Downloads the release and takes it, once its digest is right.
 * @throws BangerError NETWORK, DIGEST_MISMATCH
 */
export async function placeFromRelease(release: PinnedRelease): Promise<Installed> {
  return await withStaging(async (staging) => {
    const archive = join(staging, "release.tgz");
    await downloadRelease(release, archive);
    const unpacked = join(staging, "unpacked");
    await mkdir(unpacked, { mode: 0o700 });
    await runRootTool(
      ["tar", "--extract", "--gzip", "--no-same-owner", `--file=${archive}`, `--directory=${unpacked}`],
      TOOL_TIMEOUT_MS,
    );
    const members = await readdir(unpacked, { recursive: true, withFileTypes: true });
    for (const name of PROGRAMS) {
      const pattern = new RegExp(`^${name}-v${release.version.replaceAll(".", "\\.")}-[a-z0-9_]+$`);
      const found = members.find((entry) => entry.isFile() && pattern.test(entry.name));
      if (found === undefined)
        throw new BangerError("TOOL_MISSING", `the release of Firecracker ${release.version} contains no ${name}`);
      await rename(join(found.parentPath, found.name), join(staging, name));
    }
    return await placeStaged(staging);
  });
}

/** A private directory beside the final place, gone afterwards. */
async function withStaging<T>(work: (staging: string) => Promise<T>): Promise<T> {
  for (const path of [dirname(FIRECRACKER_DIR), FIRECRACKER_DIR])
    await ensureDirectory({ path, uid: 0, gid: 0, mode: 0o755 });
  await checkRootOnly(FIRECRACKER_DIR);
  const staging = await mkdtemp(join(FIRECRACKER_DIR, ".staging-"));
  try {
    return await work(staging);
  } finally {
    await rm(staging, { recursive: true, force: true });
    // An install that was refused leaves no directories either.
    for (const path of [FIRECRACKER_DIR, dirname(FIRECRACKER_DIR)]) {
      await rmdir(path).catch((thrown: unknown) => {
        if (!isErrno(thrown, "ENOTEMPTY") && !isErrno(thrown, "ENOENT")) throw thrown;
      });
    }
  }
}

async function placeStaged(staging: string): Promise<Installed> {
  const versions = await Promise.all(
    PROGRAMS.map(async (name) => {
      await makeRootExecutable(join(staging, name));
      const { stdout } = await tryRootTool([join(staging, name), "--version"], TOOL_TIMEOUT_MS);
      const version = parseVersion(stdout);
      if (version === null) throw new BangerError("HOST_UNSUPPORTED", `the given ${name} does not print its version`);
      return version;
    }),
  );
  const [version = "", jailerVersion = ""] = versions;
  if (version !== jailerVersion)
    throw new BangerError("HOST_UNSUPPORTED", `firecracker is ${version}, but jailer is ${jailerVersion}`);
  const unsafe = whyUnsafe(version);
  if (unsafe !== null) throw new BangerError("HOST_UNSUPPORTED", unsafe);
  if (!isStaticElf((await readFile(join(staging, "firecracker"))).subarray(0, ELF_HEAD_BYTES))) {
    throw new BangerError(
      "HOST_UNSUPPORTED",
      "the given firecracker is not statically linked, but a jail contains no libraries",
      {
        hint: "use one of Firecracker's own releases: banger system install without --firecracker-dir",
      },
    );
  }
  const directory = join(FIRECRACKER_DIR, version);
  await ensureDirectory({ path: directory, uid: 0, gid: 0, mode: 0o755 });
  // A running VM has a copy of its own in its jail.
  for (const name of PROGRAMS) await placeFile(join(directory, name), await readFile(join(staging, name)), 0o755);
  return { version, directory };
}
