/** The read-only disk that hosts see as /payload: the binary under test, Firecracker, and a guest to boot bare. */

import { chmod, copyFile, mkdir, readFile, rm, writeFile } from "node:fs/promises";
import { existsSync, statSync } from "node:fs";
import { dirname, join, resolve } from "node:path";
import { fetchTestFirecracker, type TestFirecracker } from "../../../scripts/fetch-test-firecracker.ts";
import { writeCpio } from "../../../src/daemon/kernel/write-cpio.ts";
import { runTool } from "../../../src/daemon/host/run-tool.ts";
import { ensureImages } from "../../support/banger.ts";
import type { HostImage } from "../image.ts";
import type { Need } from "../scenario.ts";

/** What the tiny guest prints on its serial console once its user space runs. */
export const GUEST_MARKER = "banger-test-guest-is-up";

const TINY_INIT = `#!/bin/busybox sh
/bin/busybox mount -t proc proc /proc
echo "${GUEST_MARKER}"
while :; do /bin/busybox sleep 3600; done
`;

export interface Payload {
  readonly imagePath: string;
  /** Null if it is available, else the reason why not. */
  readonly missing: Readonly<Record<Need, string | null>>;
}

const ROOT = join(import.meta.dir, "../../..");
/** The release build: `BANGER_BIN`, else `dist/banger`. */
const RELEASE = resolve(process.env["BANGER_BIN"] ?? join(ROOT, "dist/banger"));
const TEST_BUILD = join(ROOT, "dist/banger-for-tests");
const BUILD_TIMEOUT_MS = 300_000;

/** A Firecracker for the scenarios. `isOld`: only a test build of banger accepts it. */
interface FirecrackerChoice {
  readonly directory: string;
  readonly isOld: boolean;
}

/**
 * The directory with `firecracker` and `jailer`: BANGER_TEST_FIRECRACKER_DIR, else PATH's directory that has both, else
 * the one that scripts/fetch-test-firecracker.ts fetches; or the reason why there is none.
 */
export async function findFirecracker(
  env: Readonly<Record<string, string | undefined>>,
  fetch: () => Promise<TestFirecracker> = fetchTestFirecracker,
): Promise<FirecrackerChoice | { readonly why: string }> {
  const named = env["BANGER_TEST_FIRECRACKER_DIR"];
  const onPath = Bun.which("firecracker", { PATH: env["PATH"] ?? "" });
  const directory = named ?? (onPath === null ? null : dirname(onPath));
  if (directory !== null && ["firecracker", "jailer"].every((name) => isFile(join(directory, name))))
    return { directory, isOld: false };
  if (named !== undefined) return { why: `no firecracker and jailer in ${named} (BANGER_TEST_FIRECRACKER_DIR)` };
  const fetched = await fetch();
  return "why" in fetched ? fetched : { directory: fetched.directory, isOld: true };
}

const isFile = (path: string): boolean => existsSync(path) && statSync(path).isFile();

/**
 * Makes the disk in `directory`, which belongs to this run. With `wantsImage` it also holds banger's own guest image,
 * as `/payload/images` and `/payload/kernels`; the binary under test builds it if it isn't cached.
 */
export async function makePayload(image: HostImage, directory: string, wantsImage: boolean): Promise<Payload> {
  const tree = join(directory, "payload");
  const hasBanger = isFile(RELEASE);
  await mkdir(join(tree, "guest"), { recursive: true });
  const firecracker = await findFirecracker(process.env);
  if ("directory" in firecracker) {
    await mkdir(join(tree, "firecracker"));
    for (const name of ["firecracker", "jailer"])
      await copyExecutable(join(firecracker.directory, name), join(tree, "firecracker", name));
    if (firecracker.isOld) {
      await runTool([process.execPath, join(ROOT, "scripts/build.ts"), "--for-tests"], { timeoutMs: BUILD_TIMEOUT_MS });
      await copyExecutable(TEST_BUILD, join(tree, "banger"));
      if (hasBanger) await copyExecutable(RELEASE, join(tree, "banger-release"));
    }
  }
  if (hasBanger && !isFile(join(tree, "banger"))) await copyExecutable(RELEASE, join(tree, "banger"));
  if (wantsImage && hasBanger) {
    const images = await ensureImages();
    await runTool(["cp", "-a", "--sparse=always", `${images}/images`, `${images}/kernels`, tree], {
      timeoutMs: 120_000,
    });
  }
  await copyFile(image.guestKernelPath, join(tree, "guest/vmlinux"));
  await writeFile(join(tree, "guest/initrd"), tinyInitrd(await readFile(image.busyboxPath)));
  const imagePath = join(directory, "payload.img");
  await runTool(["mkfs.ext4", "-q", "-F", "-m", "0", "-O", "^has_journal", "-d", tree, imagePath, "3G"], {
    timeoutMs: 120_000,
  });
  await rm(tree, { recursive: true });
  return {
    imagePath,
    missing: {
      firecracker: "why" in firecracker ? firecracker.why : null,
      banger: hasBanger ? null : `no ${RELEASE}; bun run build makes it`,
      image: hasBanger ? null : "building it takes a banger",
    },
  };
}

async function copyExecutable(from: string, to: string): Promise<void> {
  await copyFile(from, to);
  await chmod(to, 0o755);
}

/** An initrd whose whole user space is one line on the console. */
function tinyInitrd(busybox: Uint8Array): Uint8Array {
  return writeCpio([
    { path: "bin", mode: 0o40755 },
    { path: "dev", mode: 0o40755 },
    { path: "proc", mode: 0o40755 },
    { path: "dev/console", mode: 0o20600, device: { major: 5, minor: 1 } },
    { path: "bin/busybox", mode: 0o100755, contents: busybox },
    { path: "init", mode: 0o100755, contents: Buffer.from(TINY_INIT) },
  ]);
}
