/**
 * Files in a file system that was made a moment ago and that no guest has seen, written by `debugfs` without mounting and without
 * root. Only for guests whose image doesn't read the identity disk. Source: debugfs(8).
 */

import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { BangerError } from "../../../shared/errors.ts";
import { parentsOf } from "../../image/write-tar.ts";
import { tryTool } from "../../host/run-tool.ts";

/** A file for /root of a guest. */
export interface DiskFile {
  /** Absolute on the work disk: clean. */
  readonly path: `/${string}`;
  /** Permission bits. */
  readonly mode: number;
  readonly contents: string | Uint8Array;
}

const TOOL_TIMEOUT_MS = 120_000;
const DIRECTORY = 0o40000;
const FILE = 0o100000;

/** A line of debugfs' script ends a command, so nothing that could end a line passes. */
// oxlint-disable-next-line no-control-regex
const CLEAN_PATH = /^(?:\/(?!\.{1,2}(?:\/|$))[^\u0000-\u001f\u007f/]+)+$/;
/** What debugfs says on standard error though all is well: its version. */
const EXPECTED_COMPLAINT = /^debugfs \d/;

/**
 * Writes files as root's, and makes the directories above them, 0700. debugfs reports errors in text and still ends with 0, so what
 * it says on standard error is checked.
 * @throws BangerError INTERNAL for a path that isn't clean, FAILED
 */
export async function seedFileSystem(path: string, files: readonly DiskFile[], signal: AbortSignal): Promise<void> {
  const unclean = files.find((file) => !CLEAN_PATH.test(file.path));
  if (unclean !== undefined) throw new BangerError("INTERNAL", `not a clean path: ${JSON.stringify(unclean.path)}`);
  const staging = await mkdtemp(join(path, "../files-"));
  try {
    const script = parentsOf(files.map((file) => file.path)).flatMap((directory) => [
      `mkdir ${quote(directory)}`,
      ...ownByRoot(directory, DIRECTORY | 0o700),
    ]);
    // The last one named counts.
    const last = new Map(files.map((file) => [file.path, file]));
    for (const [index, file] of [...last.values()].entries()) {
      const local = `f${index}`;
      await writeFile(join(staging, local), file.contents, { mode: 0o600 });
      script.push(`write ${local} ${quote(file.path)}`, ...ownByRoot(file.path, FILE | (file.mode & 0o777)));
    }
    const result = await tryTool(["debugfs", "-w", "-f", "-", path], {
      timeoutMs: TOOL_TIMEOUT_MS,
      signal,
      cwd: staging,
      stdin: `${script.join("\n")}\n`,
    });
    const complaints = result.stderr.split("\n").filter((line) => line.trim() !== "" && !EXPECTED_COMPLAINT.test(line));
    if (result.exitCode !== 0 || complaints.length > 0)
      throw new BangerError("FAILED", `files could not be written to the new work disk: ${complaints.join("; ")}`);
  } finally {
    await rm(staging, { recursive: true, force: true });
  }
}

/** A word of debugfs' command line: inside double quotes only the quote itself is special, and is doubled. */
const quote = (word: string): string => `"${word.replaceAll('"', '""')}"`;

function ownByRoot(path: string, mode: number): readonly string[] {
  return [
    `set_inode_field ${quote(path)} uid 0`,
    `set_inode_field ${quote(path)} gid 0`,
    `set_inode_field ${quote(path)} mode 0${mode.toString(8)}`,
  ];
}
