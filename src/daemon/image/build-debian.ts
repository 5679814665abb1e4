/**
 * Builds a Debian root file system from the Debian archive with mmdebstrap, without mounting anything on the host
 * and without root where user namespaces exist. Source: mmdebstrap(1), mke2fs(8).
 */

import { chmod, lstat, mkdir, mkdtemp, readdir, readFile, rename, rm, stat, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { BangerError } from "../../shared/errors.ts";
import { runTool, type ToolOptions, tryTool } from "../host/run-tool.ts";
import { ARCHIVE_KEYRING } from "../../shared/host-needs.ts";
import { type BuildMode, chooseBuildMode } from "./build-mode.ts";
import { createBuildProgress } from "./build-progress.ts";
import finishRoot from "./guest/finish-root.sh" with { type: "text" };
import { guestFiles } from "./guest-files.ts";
import { type ImageRun, ROOTFS } from "./sources/source.ts";
import { writeTar } from "./write-tar.ts";

const BUILD_TIMEOUT_MS = 30 * 60_000;
const TOOL_TIMEOUT_MS = 5 * 60_000;
const MINIMUM_BYTES = 2 * 1024 ** 3;
const ROOM_FACTOR = 1.5;
const SIZE_STEP_BYTES = 64 * 1024 ** 2;

/** Not /tmp: that is memory on many hosts, and a tree is most of a gigabyte. */
const BUILD_ROOT = "/var/tmp";

export interface DebianRecipe {
  readonly suite: string;
  readonly archive: string;
  readonly securityArchive: string;
  readonly packages: readonly string[];
}

/** What a build takes out of its tree, besides the root file system. */
export interface BuiltDebian {
  readonly kernelRelease: string;
  /** bzImage, as Debian ships it. */
  readonly kernelImage: Uint8Array;
  readonly busybox: Uint8Array;
  readonly modules: readonly { readonly name: string; readonly contents: Uint8Array }[];
  readonly builtBy: string;
}

/** mmdebstrap's argv. Pure; every word is a constant of this project or its catalog, none a user's. */
export function mmdebstrapArgv(recipe: DebianRecipe, mode: BuildMode): readonly string[] {
  const source = (mirror: string, suite: string): string =>
    `deb [signed-by=${ARCHIVE_KEYRING}] ${mirror} ${suite} main`;
  const excluded = [
    "/usr/share/man/*",
    "/usr/share/locale/*",
    "/usr/share/doc/*",
    "/usr/share/info/*",
    "/usr/share/lintian/*",
  ];
  const included = ["/usr/share/doc/*/copyright", "/usr/share/locale/locale.alias"];
  return [
    "mmdebstrap",
    "--verbose",
    `--mode=${mode}`,
    "--variant=minbase",
    "--format=null",
    // The tree is thrown away, and what is kept of it has been taken already. (Its apt would want lists that are gone.)
    "--skip=cleanup",
    `--include=${recipe.packages.join(",")}`,
    '--aptopt=APT::Install-Recommends "false"',
    ...excluded.map((path) => `--dpkgopt=path-exclude=${path}`),
    ...included.map((path) => `--dpkgopt=path-include=${path}`),
    // The package's own file goes on under another name, upgrades of it included.
    '--customize-hook=chroot "$1" dpkg-divert --quiet --local --rename --divert /etc/profile.debian --add /etc/profile',
    // Paths of these are relative to the staging directory: a home may have any name.
    "--customize-hook=tar-in guest.tar /",
    `--customize-hook=${finishRoot}`,
    "--customize-hook=copy-out /media/out .",
    recipe.suite,
    "-",
    source(recipe.archive, recipe.suite),
    source(recipe.archive, `${recipe.suite}-updates`),
    source(recipe.securityArchive, `${recipe.suite}-security`),
  ];
}

/**
 * Builds {@link ROOTFS} in `stagingDir` (private, ours, empty).
 * @throws BangerError TOOL_MISSING, HOST_UNSUPPORTED, ARCHIVE_FAILED, NO_SPACE, IMAGE_BUILD_FAILED, CANCELLED.
 */
export async function buildDebian(recipe: DebianRecipe, stagingDir: string, options: ImageRun): Promise<BuiltDebian> {
  const { signal, progress } = options;
  const mode = await chooseBuildMode(signal);
  await writeFile(join(stagingDir, "guest.tar"), writeTar(guestFiles()), { mode: 0o600 });
  await runMmdebstrap(recipe, mode, stagingDir, options);

  progress({ stage: "filesystem", message: "Checking the root file system" });
  const out = join(stagingDir, "out");
  const rootfsPath = join(stagingDir, ROOTFS);
  await rename(join(out, "rootfs.ext4"), rootfsPath);
  await sizeRootfs(rootfsPath, signal);

  const moduleNames = (await readdir(join(out, "modules"))).sort();
  const built: BuiltDebian = {
    kernelRelease: (await readFile(join(out, "release"), "utf8")).trim(),
    kernelImage: await readFile(join(out, "vmlinuz")),
    busybox: await readFile(join(out, "busybox")),
    modules: await Promise.all(
      moduleNames.map(async (name) => ({ name, contents: await readFile(join(out, "modules", name)) })),
    ),
    builtBy: (await runTool(["mmdebstrap", "--version"], { timeoutMs: TOOL_TIMEOUT_MS, signal })).stdout.trim(),
  };
  await rm(out, { recursive: true });
  await rm(join(stagingDir, "guest.tar"));
  return built;
}

async function runMmdebstrap(
  recipe: DebianRecipe,
  mode: BuildMode,
  stagingDir: string,
  options: ImageRun,
): Promise<void> {
  const buildDir = await mkdtemp(join(BUILD_ROOT, buildDirPrefix(dirname(stagingDir))));
  live.add(buildDir);
  const parse = createBuildProgress();
  try {
    const treeDir = join(buildDir, "tree");
    await mkdir(treeDir, { mode: 0o700 });
    // In a user namespace the tree belongs to another uid, which must get to it; it can list neither directory.
    if (mode === "unshare") await Promise.all([chmod(buildDir, 0o711), chmod(treeDir, 0o1733)]);
    const toolOptions: ToolOptions = {
      timeoutMs: BUILD_TIMEOUT_MS,
      signal: options.signal,
      cwd: stagingDir,
      // INITRD: Debian's kernel package makes no initrd (initramfs-tools' hook honours it); banger makes its own.
      env: { TMPDIR: treeDir, INITRD: "No", DEBIAN_FRONTEND: "noninteractive" },
      onStderrLine: (line) => {
        const step = parse(line);
        if (step !== null) options.progress(step);
      },
    };
    options.progress({ stage: "resolve", message: "Reading the Debian archive's index" });
    const result = await tryTool([...containment(mode), ...mmdebstrapArgv(recipe, mode)], toolOptions);
    if (result.exitCode !== 0) throw buildFailure(result.stderr);
  } finally {
    await removeBuildDir(buildDir);
    live.delete(buildDir);
  }
}

/**
 * What a build runs in, so that it never outlives the daemon and its mounts never outlive it: killed at any moment,
 * it leaves no more than files. As root mmdebstrap would mount in the host's own namespace, and a removal of its
 * tree would then meet the host's /proc and /dev. Source: unshare(1), setpriv(1).
 */
function containment(mode: BuildMode): readonly string[] {
  if (mode === "unshare") return ["setpriv", "--pdeathsig", "TERM"];
  return [
    "setpriv",
    "--pdeathsig",
    "KILL",
    "unshare",
    "--mount",
    "--pid",
    "--mount-proc",
    "--fork",
    "--kill-child=KILL",
  ];
}

/** How names of build directories in /var/tmp start: another daemon of the same user has images, and builds, of its own. */
export function buildDirPrefix(imagesDir: string): string {
  return `banger-build-${new Bun.CryptoHasher("sha256").update(imagesDir).digest("hex").slice(0, 16)}-`;
}

const live = new Set<string>();

/** Build directories for these images that no build of this process works in. */
export async function listBuildDirs(imagesDir: string): Promise<readonly string[]> {
  const found: string[] = [];
  for (const name of await readdir(BUILD_ROOT)) {
    if (!name.startsWith(buildDirPrefix(imagesDir))) continue;
    const path = join(BUILD_ROOT, name);
    // Anybody may make a directory of that name here.
    if ((await lstat(path)).uid === process.getuid?.() && !live.has(path)) found.push(path);
  }
  return found;
}

/** Removes a build directory, with what a dead build left in it as uids of its namespace. */
export async function removeBuildDir(path: string): Promise<void> {
  if (
    process.getuid?.() !== 0 &&
    (await Array.fromAsync(new Bun.Glob("tree/*").scan({ cwd: path, onlyFiles: false }))).length > 0
  ) {
    await tryTool(["mmdebstrap", "--unshare-helper", "rm", "-rf", "--one-file-system", "--", join(path, "tree")], {
      timeoutMs: TOOL_TIMEOUT_MS,
    });
  }
  await runTool(["rm", "-rf", "--one-file-system", "--", path], { timeoutMs: TOOL_TIMEOUT_MS });
}

/** Grows the file to the size guests see, sparse, and proves the file system sound. */
async function sizeRootfs(path: string, signal: AbortSignal): Promise<void> {
  const { size } = await stat(path);
  const wanted = Math.max(MINIMUM_BYTES, Math.ceil((size * ROOM_FACTOR) / SIZE_STEP_BYTES) * SIZE_STEP_BYTES);
  const tool: ToolOptions = { timeoutMs: TOOL_TIMEOUT_MS, signal };
  await runTool(["resize2fs", path, `${wanted / 1024}K`], { ...tool, confined: { writes: [path] } });
  await runTool(["fallocate", "--dig-holes", path], tool);
  const check = await tryTool(["e2fsck", "-fn", path], { ...tool, confined: { reads: [path] } });
  if (check.exitCode !== 0) {
    throw new BangerError(
      "IMAGE_BUILD_FAILED",
      `the new root file system is damaged: ${check.stdout.trim().split("\n").slice(-3).join("; ")}`,
    );
  }
}

/** Lines of a build that say why it failed: apt's, dpkg's, and those of the programs that the last step runs. */
const TELLING =
  /^(?:E:|Err:|W: .*(?:GPG|sign)|dpkg: error|.*No space left|(?:mount|umount|mkfs\.ext4|mke2fs|tune2fs|chroot|modprobe|find|xargs|cp|du|xz|zstd|rm|sh|dpkg-query|apt-mark): )/;

/** The error of a failed mmdebstrap, from what it said. Pure. */
export function buildFailure(stderr: string): BangerError {
  // mmdebstrap quotes a failed hook in full; what it said of the failure stands before.
  const lines = stderr.replaceAll(finishRoot.trim(), "the last step").trim().split("\n");
  const telling = lines.filter((line) => TELLING.test(line)).slice(-6);
  const message = (telling.length > 0 ? telling : lines.slice(-6)).join("\n");
  const details = { output: lines.slice(-40) };
  if (/No space left on device|not enough free space|don't have enough free space/.test(stderr)) {
    return new BangerError("NO_SPACE", `the build ran out of space in ${BUILD_ROOT} or the state directory`, {
      details,
    });
  }
  if (/NO_PUBKEY|BADSIG|EXPKEYSIG|is not signed|signatures? (?:was|were|couldn't|could not)/.test(stderr)) {
    return new BangerError("ARCHIVE_FAILED", `the Debian archive's signature is not valid:\n${message}`, { details });
  }
  if (
    /Failed to fetch|Could not resolve|Unable to connect|Could not connect|Temporary failure resolving|Hash Sum mismatch/.test(
      stderr,
    )
  ) {
    return new BangerError("ARCHIVE_FAILED", `the Debian archive could not be reached:\n${message}`, { details });
  }
  return new BangerError("IMAGE_BUILD_FAILED", `mmdebstrap failed:\n${message}`, { details });
}
