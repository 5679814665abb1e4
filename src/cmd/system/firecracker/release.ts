/** The Firecracker that install fetches when none is given, and which versions are safe. Source: Firecracker's releases and security advisories. */

import { BangerError } from "../../../shared/errors.ts";
import { IS_TEST_BUILD } from "../../../shared/version.ts";

export interface PinnedRelease {
  readonly version: string;
  readonly url: string;
  readonly sha256: string;
}

const release = (version: string, arch: string, sha256: string): PinnedRelease => ({
  version,
  url: `https://github.com/firecracker-microvm/firecracker/releases/download/v${version}/firecracker-v${version}-${arch}.tgz`,
  sha256,
});

/** By `process.arch`. */
const PINNED: Readonly<Record<string, PinnedRelease>> = Object.assign(Object.create(null) as object, {
  x64: release("1.17.0", "x86_64", "06094a1108ae9e82aa4c23a775aa92758f53f1175d422270d9d6162cb9ade558"),
  arm64: release("1.16.1", "aarch64", "8d0e69f6d6f9a1724551f607f18504052c16c1828ee3d4d7b6e6c73380871e0e"),
});

/** @throws BangerError HOST_UNSUPPORTED on another kind of machine */
export function pinnedRelease(arch: string): PinnedRelease {
  const pinned = PINNED[arch];
  if (pinned === undefined) throw new BangerError("HOST_UNSUPPORTED", `there is no Firecracker for ${arch} machines`);
  return pinned;
}

/** Oldest release of each line without a known way out of the guest; lines after the last are safe. */
const SAFE: readonly (readonly [major: number, minor: number, patch: number])[] = [
  [1, 14, 4],
  [1, 15, 1],
  [1, 16, 0],
];

/** An old release that package registries carry, so that tests can boot Firecracker where nobody installed it. */
export const TEST_ONLY_VERSION = "1.12.1";

/** Null when the version is safe, or is {@link TEST_ONLY_VERSION} and this is a test build; else why it isn't. */
export function whyUnsafe(version: string, isTestBuild = IS_TEST_BUILD): string | null {
  if (isTestBuild && version === TEST_ONLY_VERSION) return null;
  const [major = 0, minor = 0, patch = 0] = version.split(/[.-]/).map(Number);
  const line = SAFE.find((safe) => safe[0] === major && safe[1] === minor);
  const newest = SAFE.at(-1);
  if (line !== undefined && patch >= line[2]) return null;
  if (line === undefined && newest !== undefined && (major > newest[0] || (major === newest[0] && minor > newest[1])))
    return null;
  const wanted = SAFE.map((safe) => safe.join(".")).join(", ");
  return `Firecracker ${version} has known security holes; the oldest safe releases are ${wanted}`;
}

/** The version in `firecracker --version` or `jailer --version`; null when it is neither. */
export function parseVersion(said: string): string | null {
  return /^(?:Firecracker|Jailer) v(\d{1,4}\.\d{1,4}\.\d{1,4}(?:-[a-z0-9]{1,16})?)$/m.exec(said)?.[1] ?? null;
}
