/**
 * The work disk: a sparse ext4 file mounted at /root in the guest. It carries the VM's identity, written by
 * `debugfs` without mounting and without root. Source: mke2fs(8), debugfs(8).
 */

import { mkdtemp, open, rm, stat, truncate, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { BangerError } from "../../shared/errors.ts";
import { runTool, tryTool } from "../run-tool.ts";

/** A file to put on the disk. Paths and modes are ours, never a caller's: they stand in debugfs' script. */
export interface IdentityFile {
  readonly path: `/${string}`;
  readonly mode: 0o600 | 0o644;
  readonly contents: string | Uint8Array;
}

const FIXED_PATH = /^(?:\/[A-Za-z0-9_.][A-Za-z0-9_.-]*)+$/;
const TOOL_TIMEOUT_MS = 120_000;

/** What debugfs says on standard error though all is well: its version, and that a file to replace isn't there yet. */
const EXPECTED_COMPLAINT = /^debugfs \d|^rm: File not found by ext2_lookup/;

/** Makes the file and its file system. The guest sees `bytes`; the host gives blocks only as they are written. */
export async function createWorkDisk(path: string, bytes: number, signal: AbortSignal): Promise<void> {
  const handle = await open(path, "wx", 0o600);
  try {
    await handle.truncate(bytes);
  } finally {
    await handle.close();
  }
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
      path,
    ],
    { timeoutMs: TOOL_TIMEOUT_MS, signal },
  );
}

/**
 * Writes files as root's, replacing those that are there. The file system must not be in use.
 * `debugfs` reports errors in text and still ends with 0, so what it says on standard error is checked.
 */
export async function writeIdentity(path: string, files: readonly IdentityFile[], signal: AbortSignal): Promise<void> {
  // A file system whose guest ended without unmounting has a journal to replay first.
  await repairFileSystem(path, signal);
  const staging = await mkdtemp(join(path, "../identity-"));
  try {
    const script: string[] = [];
    const directories = new Set<string>();
    for (const [index, file] of files.entries()) {
      if (!FIXED_PATH.test(file.path)) throw new BangerError("INTERNAL", `not a fixed path: ${file.path}`);
      const local = `f${index}`;
      await writeFile(join(staging, local), file.contents, { mode: 0o600 });
      const parent = file.path.slice(0, file.path.lastIndexOf("/"));
      if (parent !== "" && !directories.has(parent)) {
        directories.add(parent);
        // debugfs' mkdir of a directory that is there leaks an inode and leaves the file system damaged.
        if (!(await hasDirectory(path, parent, signal))) script.push(`mkdir ${parent}`);
        script.push(...ownByRoot(parent, 0o40700));
      }
      script.push(`rm ${file.path}`, `write ${local} ${file.path}`, ...ownByRoot(file.path, 0o100000 | file.mode));
    }
    const result = await tryTool(["debugfs", "-w", "-f", "-", path], {
      timeoutMs: TOOL_TIMEOUT_MS,
      signal,
      cwd: staging,
      stdin: `${script.join("\n")}\n`,
    });
    const complaints = result.stderr.split("\n").filter((line) => line.trim() !== "" && !EXPECTED_COMPLAINT.test(line));
    if (result.exitCode !== 0 || complaints.length > 0) {
      throw new BangerError(
        "FAILED",
        `the VM's identity could not be written to its work disk: ${complaints.join("; ")}`,
      );
    }
  } finally {
    await rm(staging, { recursive: true, force: true });
  }
}

async function hasDirectory(path: string, directory: string, signal: AbortSignal): Promise<boolean> {
  const { stdout } = await tryTool(["debugfs", "-R", `stat ${directory}`, path], {
    timeoutMs: TOOL_TIMEOUT_MS,
    signal,
  });
  return /\bType: directory\b/.test(stdout);
}

function ownByRoot(path: string, mode: number): readonly string[] {
  return [
    `set_inode_field ${path} uid 0`,
    `set_inode_field ${path} gid 0`,
    `set_inode_field ${path} mode 0${mode.toString(8)}`,
  ];
}

/** Replays the journal and repairs what can be repaired without questions. */
export async function repairFileSystem(path: string, signal: AbortSignal): Promise<void> {
  const result = await tryTool(["e2fsck", "-p", path], { timeoutMs: TOOL_TIMEOUT_MS, signal });
  // e2fsck(8): 0 clean, 1 and 2 repaired; 4 and up left as it was.
  if (result.exitCode >= 4) {
    throw new BangerError(
      "FAILED",
      `the file system of ${path} is damaged: ${(result.stdout + result.stderr).trim().split("\n").slice(-3).join("; ")}`,
      {
        hint: `e2fsck -f ${path}`,
      },
    );
  }
}

/** Grows the file and its file system; never shrinks. */
export async function growWorkDisk(path: string, bytes: number, signal: AbortSignal): Promise<void> {
  const { size } = await stat(path);
  if (bytes < size) throw new BangerError("INVALID_VALUE", "a disk only grows");
  await truncate(path, bytes);
  const check = await tryTool(["e2fsck", "-f", "-p", path], { timeoutMs: TOOL_TIMEOUT_MS, signal });
  if (check.exitCode >= 4)
    throw new BangerError("FAILED", `the file system of ${path} is damaged`, { hint: `e2fsck -f ${path}` });
  await runTool(["resize2fs", path], { timeoutMs: TOOL_TIMEOUT_MS, signal });
}
