/**
 * Files in a VM's root snapshot, by e2fsprogs and without mounting. What is parsed was written by a guest, so the
 * programs run as the VM's own uid, in a directory of its own, with a node of that one disk: a file system that takes
 * one over gains what the VM had. Source: debugfs(8), e2fsck(8).
 */

import { closeSync, constants, openSync, writeSync } from "node:fs";
import { BangerError, isErrno } from "../shared/errors.ts";
import type { HelperContext } from "./context.ts";
import { openJails } from "./directories.ts";
import { findUnused } from "./dm.ts";
import { clearWorkshop, WORKSHOPS } from "./jail.ts";
import { tryTool, type ToolResult } from "./run-tool.ts";
import { scopePids } from "./scope.ts";
import { takeSlot } from "./slots.ts";
import type { Descriptor } from "./sys/descriptors.ts";

const TIMEOUT_MS = 110_000;
export const FILE_LIMIT_BYTES = 32 * 1024;
const DISK = "disk";

/** A directory in which tools may work on one VM's disk, as its uid. */
interface Workshop {
  readonly directory: Descriptor;
  readonly uid: number;
  run(tool: "e2fsck" | "debugfs", args: readonly string[], stdin?: string): Promise<ToolResult>;
}

/** @throws BangerError VM_NOT_FOUND without a snapshot, IN_USE while it is open. */
async function withWorkshop<T>(
  context: HelperContext,
  vm: string,
  work: (workshop: Workshop) => Promise<T>,
): Promise<T> {
  if (scopePids(context, vm).length > 0) throw new BangerError("IN_USE", `${vm} runs`);
  const facts = await findUnused(vm);
  const { uid } = takeSlot(context, vm);
  using jails = openJails(context);
  makeDirectory(jails, WORKSHOPS);
  using workshops = jails.openDirectory(WORKSHOPS);
  workshops.chmod(0o711);
  clearWorkshop(context, vm);
  makeDirectory(workshops, vm);
  try {
    using directory = workshops.openDirectory(vm);
    directory.makeBlockNode(DISK, facts.major, facts.minor);
    using node = directory.openPath(DISK);
    node.chown(uid, uid);
    directory.chown(uid, uid);
    const cwd = `${context.paths.jailDir}/${WORKSHOPS}/${vm}`;
    return await work({
      directory,
      uid,
      run: async (tool, args, stdin) =>
        await tryTool(tool, args, {
          timeoutMs: TIMEOUT_MS,
          runAs: uid,
          cwd,
          stdoutLimitBytes: FILE_LIMIT_BYTES,
          ...(stdin === undefined ? {} : { stdin }),
        }),
    });
  } finally {
    clearWorkshop(context, vm);
  }
}

function makeDirectory(parent: Descriptor, name: string): void {
  try {
    parent.makeDirectory(name, 0o700);
  } catch (thrown) {
    if (!isErrno(thrown, "EEXIST")) throw thrown;
  }
}

/** True when something was repaired. @throws BangerError FAILED when it can't be without questions. */
export async function repairSnapshot(context: HelperContext, vm: string): Promise<boolean> {
  return await withWorkshop(context, vm, repair);
}

async function repair({ run }: Workshop): Promise<boolean> {
  const { exitCode, stdout, stderr } = await run("e2fsck", ["-p", DISK]);
  // e2fsck(8): 0 clean, 1 and 2 repaired, 4 and up left as it was.
  if (exitCode < 4) return exitCode !== 0;
  const said = `${new TextDecoder().decode(stdout)}${stderr}`.trim().split("\n").slice(-3).join("; ");
  throw new BangerError("FAILED", `the root file system is damaged: ${said}`);
}

/** The file's bytes; null when there is no such file. The path has passed its gate. */
export async function readGuestFile(context: HelperContext, vm: string, path: string): Promise<Uint8Array | null> {
  return await withWorkshop(context, vm, async ({ run }) => {
    const { stdout, stderr } = await run("debugfs", ["-R", `cat ${path}`, DISK]);
    const complaint = complaintOf(stderr);
    if (complaint === "") return stdout;
    if (/File not found/.test(complaint)) return null;
    throw new BangerError("FAILED", `${path} can't be read: ${complaint}`);
  });
}

export interface GuestFile {
  readonly path: string;
  readonly mode: number;
  readonly contents: Uint8Array;
}

/** Writes files as root's, replacing those that are there. Paths have passed their gate; contents never meet the script. */
export async function writeGuestFiles(context: HelperContext, vm: string, files: readonly GuestFile[]): Promise<void> {
  await withWorkshop(context, vm, async (workshop) => {
    // A journal to replay would undo what debugfs writes past it.
    await repair(workshop);
    const { directory, uid, run } = workshop;
    const script: string[] = [];
    const known = new Set<string>();
    for (const [index, { path, mode, contents }] of files.entries()) {
      const local = `f${index}`;
      const fd = openSync(
        `${directory.procPath}/${local}`,
        constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL,
        0o600,
      );
      try {
        writeSync(fd, contents);
      } finally {
        closeSync(fd);
      }
      using file = directory.openPath(local);
      file.chown(uid, uid);
      for (const parent of parentsOf(path)) {
        if (known.has(parent)) continue;
        known.add(parent);
        // debugfs' mkdir of a directory that is there leaks an inode and leaves the file system damaged.
        const { stdout } = await run("debugfs", ["-R", `stat ${parent}`, DISK]);
        if (/\bType: (?:directory|symlink)\b/.test(new TextDecoder().decode(stdout))) continue;
        script.push(`mkdir ${parent}`, ...ownByRoot(parent, 0o40755));
      }
      script.push(`rm ${path}`, `write ${local} ${path}`, ...ownByRoot(path, 0o100000 | mode));
    }
    const { exitCode, stderr } = await run("debugfs", ["-w", "-f", "-", DISK], `${script.join("\n")}\n`);
    const complaint = complaintOf(stderr);
    if (exitCode !== 0 || complaint !== "") throw new BangerError("FAILED", `the files can't be written: ${complaint}`);
  });
}

function parentsOf(path: string): readonly string[] {
  const parts = path.split("/").slice(1, -1);
  return parts.map((_, index) => `/${parts.slice(0, index + 1).join("/")}`);
}

function ownByRoot(path: string, mode: number): readonly string[] {
  return [
    `set_inode_field ${path} uid 0`,
    `set_inode_field ${path} gid 0`,
    `set_inode_field ${path} mode 0${mode.toString(8)}`,
  ];
}

/** debugfs ends with 0 whatever happens, so what it says is read: all but its version and the `rm` of what isn't there yet. */
function complaintOf(stderr: string): string {
  return stderr
    .split("\n")
    .filter((line) => line.trim() !== "" && !/^debugfs \d|^rm: File not found by ext2_lookup/.test(line))
    .join("; ");
}
