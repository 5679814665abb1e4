/**
 * The work disk: a sparse ext4 file mounted at /root in the guest. It carries the VM's identity and `file_sync`, written by
 * `debugfs` without mounting and without root. Source: mke2fs(8), debugfs(8).
 */

import { mkdtemp, open, rm, stat, truncate, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { BangerError } from "../../shared/errors.ts";
import { runTool, tryTool } from "../run-tool.ts";

/** A file to put on the disk. */
export interface DiskFile {
  /** Absolute on the disk, which is /root in the guest: clean, without control characters. */
  readonly path: `/${string}`;
  /** Permission bits. */
  readonly mode: number;
  readonly contents: string | Uint8Array;
}

/** Where the guest finds what it is known by. Made anew as it must be at every start. */
export const IDENTITY_DIRECTORY = "/.banger";

/** A line of debugfs' script ends a command, so nothing that could end a line passes. */
// oxlint-disable-next-line no-control-regex
const CLEAN_PATH = /^(?:\/(?!\.{1,2}(?:\/|$))[^\u0000-\u001f\u007f/]+)+$/;
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
 * Writes files as root's, replacing those that are there, and makes the directories above them. The file system must not be
 * in use. `debugfs` reports errors in text and still ends with 0, so what it says on standard error is checked.
 * @throws BangerError INTERNAL for a path that isn't clean, FAILED
 */
export async function writeFiles(path: string, files: readonly DiskFile[], signal: AbortSignal): Promise<void> {
  // A file system whose guest ended without unmounting has a journal to replay first.
  if (!isClean(await readSuperblock(path))) await repairFileSystem(path, signal);
  const staging = await mkdtemp(join(path, "../files-"));
  try {
    const script: string[] = [];
    /** Directories seen, and whether this script makes them. */
    const directories = new Map<string, boolean>();
    const ensureDirectory = async (directory: string): Promise<boolean> => {
      const known = directories.get(directory);
      if (known !== undefined || directory === "") return known ?? false;
      const isParentNew = await ensureDirectory(parentOf(directory));
      // debugfs' mkdir of a directory that is there leaks an inode and leaves the file system damaged.
      const isNew = isParentNew || !(await hasDirectory(path, directory, signal));
      if (isNew) script.push(`mkdir ${quote(directory)}`);
      if (isNew || directory === IDENTITY_DIRECTORY) script.push(...ownByRoot(directory, 0o40700));
      directories.set(directory, isNew);
      return isNew;
    };
    for (const [index, file] of files.entries()) {
      if (!CLEAN_PATH.test(file.path))
        throw new BangerError("INTERNAL", `not a clean path: ${JSON.stringify(file.path)}`);
      const local = `f${index}`;
      await writeFile(join(staging, local), file.contents, { mode: 0o600 });
      await ensureDirectory(parentOf(file.path));
      script.push(
        `rm ${quote(file.path)}`,
        `write ${local} ${quote(file.path)}`,
        ...ownByRoot(file.path, 0o100000 | (file.mode & 0o777)),
      );
    }
    const result = await tryTool(["debugfs", "-w", "-f", "-", path], {
      timeoutMs: TOOL_TIMEOUT_MS,
      signal,
      cwd: staging,
      stdin: `${script.join("\n")}\n`,
    });
    const complaints = result.stderr.split("\n").filter((line) => line.trim() !== "" && !EXPECTED_COMPLAINT.test(line));
    if (result.exitCode !== 0 || complaints.length > 0) {
      throw new BangerError("FAILED", `files could not be written to the work disk: ${complaints.join("; ")}`);
    }
  } finally {
    await rm(staging, { recursive: true, force: true });
  }
}

const parentOf = (path: string): string => path.slice(0, path.lastIndexOf("/"));

/** A word of debugfs' command line: inside double quotes only the quote itself is special, and is doubled. */
const quote = (word: string): string => `"${word.replaceAll('"', '""')}"`;

async function hasDirectory(path: string, directory: string, signal: AbortSignal): Promise<boolean> {
  const { stdout } = await tryTool(["debugfs", "-R", `stat ${quote(directory)}`, path], {
    timeoutMs: TOOL_TIMEOUT_MS,
    signal,
  });
  return /\bType: directory\b/.test(stdout);
}

function ownByRoot(path: string, mode: number): readonly string[] {
  return [
    `set_inode_field ${quote(path)} uid 0`,
    `set_inode_field ${quote(path)} gid 0`,
    `set_inode_field ${quote(path)} mode 0${mode.toString(8)}`,
  ];
}

const SUPERBLOCK_OFFSET = 1024;
const SUPERBLOCK_BYTES = 1024;

async function readSuperblock(path: string): Promise<Uint8Array> {
  return await Bun.file(path)
    .slice(SUPERBLOCK_OFFSET, SUPERBLOCK_OFFSET + SUPERBLOCK_BYTES)
    .bytes();
}

const MAGIC = 0xef53;
const STATE_CLEAN = 1;
const INCOMPAT_RECOVER = 0x4;
const RO_COMPAT_ORPHAN_PRESENT = 0x10000;

/**
 * Whether an ext4 superblock says that nothing is to be replayed or repaired, which is all that `e2fsck -p` asks before it leaves
 * a file system alone. Pure. Source: kernel doc filesystems/ext4/super.rst.
 */
export function isClean(superblock: Uint8Array): boolean {
  if (superblock.length < SUPERBLOCK_BYTES) return false;
  const view = new DataView(superblock.buffer, superblock.byteOffset, superblock.byteLength);
  return (
    view.getUint16(0x38, true) === MAGIC &&
    view.getUint16(0x3a, true) === STATE_CLEAN &&
    (view.getUint32(0x60, true) & INCOMPAT_RECOVER) === 0 &&
    (view.getUint32(0x64, true) & RO_COMPAT_ORPHAN_PRESENT) === 0 &&
    view.getUint32(0xe8, true) === 0
  );
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
