/**
 * A VM's scope and the processes in it, read from the kernel: the cgroup says who is inside, whatever pid file a VMM
 * may have forged in its jail. Source: cgroups(7), kernel doc cgroup-v2 "cgroup.kill", proc(5).
 */

import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { constants } from "node:os";
import { join } from "node:path";
import { BangerError, isErrno } from "../../shared/errors.ts";
import { scopeName, VMS_CGROUP, vmOfScope } from "../../shared/host-names.ts";
import type { HelperContext } from "../context.ts";
import { isVmProcess, type ProcessFacts } from "../gates.ts";
import { findSlot } from "./slots.ts";
import type { Descriptor } from "../sys/descriptors.ts";
import { hasEnded, openProcess, signalProcess } from "../sys/processes.ts";

const KILL_TIMEOUT_MS = 10_000;

export const scopeCgroup = (vm: string): string => `${VMS_CGROUP}/${scopeName(vm)}`;

const directoryOf = ({ cgroupRoot }: HelperContext, vm: string): string => join(cgroupRoot, scopeCgroup(vm));

/** The text, or null when what it belongs to is gone. */
function readGone(path: string): string | null {
  try {
    return readFileSync(path, "utf8");
  } catch (thrown) {
    if (isErrno(thrown, "ENOENT") || isErrno(thrown, "ESRCH") || isErrno(thrown, "ENODEV")) return null;
    throw thrown;
  }
}

/** Pids in the VM's scope; none when there is no scope. */
export function scopePids(context: HelperContext, vm: string): readonly number[] {
  const text = readGone(join(directoryOf(context, vm), "cgroup.procs")) ?? "";
  return text.split("\n").filter(Boolean).map(Number);
}

/** VM ids that have a scope. */
export function listScopes(context: HelperContext): readonly string[] {
  try {
    return readdirSync(join(context.cgroupRoot, VMS_CGROUP)).flatMap((name) => vmOfScope(name) ?? []);
  } catch (thrown) {
    if (isErrno(thrown, "ENOENT")) return [];
    throw thrown;
  }
}

/** What /proc says of a process, and when it began; null when it has ended. */
function readProcess(pid: number): (ProcessFacts & { readonly startTicks: string }) | null {
  const status = readGone(`/proc/${pid}/status`);
  const stat = readGone(`/proc/${pid}/stat`);
  const cgroups = readGone(`/proc/${pid}/cgroup`);
  if (status === null || stat === null || cgroups === null) return null;
  // Real, effective, saved and file system uid: all four must be the same for it to be that user's alone.
  const uids = /^Uid:\t(\d+)\t(\d+)\t(\d+)\t(\d+)$/m.exec(status)?.slice(1) ?? [];
  // The name stands in brackets and may itself hold any byte, brackets and blanks included.
  const comm = stat.slice(stat.indexOf("(") + 1, stat.lastIndexOf(")"));
  const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
  if (fields[0] === "Z" || fields[0] === "X") return null;
  return {
    pid,
    uid: new Set(uids).size === 1 ? Number(uids[0]) : -1,
    comm,
    cgroup: /^0::(.*)$/m.exec(cgroups)?.[1] ?? "",
    startTicks: fields[19] ?? "",
  };
}

export interface VmProcess extends Disposable {
  readonly pid: number;
  readonly startTicks: string;
  readonly uid: number;
  readonly descriptor: Descriptor;
}

/**
 * The VM's Firecracker, held by a pidfd: what is read from /proc after the pidfd was opened, while the process has not
 * ended, is about that process and no later one of the same pid. Null when none runs.
 */
export function findVmProcess(context: HelperContext, vm: string): VmProcess | null {
  const slot = findSlot(context, vm);
  for (const pid of scopePids(context, vm)) {
    let descriptor: Descriptor;
    try {
      descriptor = openProcess(pid);
    } catch (thrown) {
      if (isErrno(thrown, "ESRCH")) continue;
      throw thrown;
    }
    const process = readProcess(pid);
    const accepted =
      process !== null &&
      isVmProcess.check({ process, uid: slot?.uid ?? null, cgroup: scopeCgroup(vm) }) === null &&
      !hasEnded(descriptor);
    if (accepted) {
      return {
        pid,
        startTicks: process.startTicks,
        uid: process.uid,
        descriptor,
        [Symbol.dispose]: () => descriptor[Symbol.dispose](),
      };
    }
    descriptor[Symbol.dispose]();
  }
  return null;
}

/** So long other callers wait while processes are looked at, in milliseconds. */
const LOOK_MS = 10;

/**
 * A process of which any task has that id among its user or group ids, whether real, effective, saved, of file access or supplementary; null
 * without one. The attack: with a set-uid file of the VM's, an accomplice has the id as its saved one only. A task that
 * ended and is waited for counts no more.
 */
export async function findProcessOf(id: number): Promise<number | null> {
  let began = performance.now();
  for (const pid of readdirSync("/proc").filter((name) => /^\d+$/.test(name))) {
    for (const task of listTasks(pid)) {
      if (hasId(readGone(`/proc/${pid}/task/${task}/status`) ?? "", id)) return Number(pid);
      if (performance.now() - began < LOOK_MS) continue;
      await Bun.sleep(0);
      began = performance.now();
    }
  }
  return null;
}

function listTasks(pid: string): readonly string[] {
  try {
    return readdirSync(`/proc/${pid}/task`);
  } catch (thrown) {
    if (isErrno(thrown, "ENOENT") || isErrno(thrown, "ESRCH")) return [];
    throw thrown;
  }
}

/** Whether a task that runs has the id, by its /proc/pid/status. Pure. Source: proc(5). */
export function hasId(status: string, id: number): boolean {
  if (/^State:\t[ZX]/m.test(status)) return false;
  return [...status.matchAll(/^(?:Uid|Gid|Groups):\t(.*)$/gm)].some(([, ids = ""]) =>
    ids.split(/\s+/).includes(String(id)),
  );
}

/** False when the process has ended. */
export function signalVmProcess(process: VmProcess, signal: string): boolean {
  try {
    signalProcess(process.descriptor, constants.signals[`SIG${signal}` as NodeJS.Signals]);
    return true;
  } catch (thrown) {
    if (isErrno(thrown, "ESRCH")) return false;
    throw thrown;
  }
}

/**
 * SIGKILL to all of the scope at once, by the kernel, so that nothing forked in the meantime escapes; then waits.
 * False when nothing was there. @throws BangerError VMM_FAILED when something outlives it by 10 s.
 */
export async function killScope(context: HelperContext, vm: string): Promise<boolean> {
  if (scopePids(context, vm).length === 0) return false;
  try {
    writeFileSync(join(directoryOf(context, vm), "cgroup.kill"), "1");
  } catch (thrown) {
    if (!isErrno(thrown, "ENOENT") && !isErrno(thrown, "ENODEV")) throw thrown;
  }
  const deadline = Date.now() + KILL_TIMEOUT_MS;
  for (let waitMs = 1; scopePids(context, vm).length > 0; waitMs = Math.min(waitMs * 2, 50)) {
    if (Date.now() > deadline) throw new BangerError("VMM_FAILED", `${scopeName(vm)} did not end on SIGKILL`);
    await Bun.sleep(waitMs);
  }
  return true;
}
