/**
 * The work disk: a sparse ext4 file mounted at /root in the guest. The host makes it and never opens its file system again: what a
 * guest has written is for the guest to check, repair and grow. Source: mke2fs(8).
 */

import { open, rename, rm, stat, truncate, writeFile } from "node:fs/promises";
import { BangerError } from "../../../shared/errors.ts";
import { runTool } from "../../host/run-tool.ts";
import { type DiskFile, seedFileSystem } from "./seed.ts";

const TOOL_TIMEOUT_MS = 120_000;

/**
 * Makes the file and its file system, in place of what stood there. The guest sees `bytes`; the host gives blocks only as they are
 * written. `files` are for images that don't read the identity disk.
 */
export async function createWorkDisk(
  path: string,
  bytes: number,
  signal: AbortSignal,
  files: readonly DiskFile[] = [],
): Promise<void> {
  const staging = `${path}.new`;
  await rm(staging, { force: true });
  const handle = await open(staging, "wx", 0o600);
  try {
    await handle.truncate(bytes);
  } finally {
    await handle.close();
  }
  try {
    await runTool(
      [
        "mkfs.ext4",
        "-q",
        "-F",
        "-L",
        "banger-work",
        "-m",
        "0",
        "-E",
        "lazy_itable_init=1,lazy_journal_init=1,root_owner=0:0",
        staging,
      ],
      { timeoutMs: TOOL_TIMEOUT_MS, signal },
    );
    if (files.length > 0) await seedFileSystem(staging, files, signal);
    await rename(staging, path);
  } finally {
    await rm(staging, { force: true });
  }
}

/** There from a growth until a guest has booted with it. */
export const growthMarkOf = (path: string): string => `${path}.grown`;

/** Grows the file; never shrinks it. The guest grows the file system at its next boot. */
export async function growWorkDisk(path: string, bytes: number): Promise<void> {
  const { size } = await stat(path);
  if (bytes < size) throw new BangerError("INVALID_VALUE", "a disk can't shrink");
  await writeFile(growthMarkOf(path), "", { mode: 0o600 });
  await truncate(path, bytes);
}
