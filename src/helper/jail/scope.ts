/**
 * A VM's scope and its processes, read from the kernel. The cgroup tells who is inside, even if the VMM forges a pid
 * file in its jail. Source: cgroups(7), kernel doc cgroup-v2 "cgroup.kill", proc(5).
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

/** Reads a file's text; null if its process, cgroup or device is gone. */
function readGone(path: string): string | null {
  try {
    return readFileSync(path, "utf8");
  } catch (thrown) {
    if (isErrno(thrown, "ENOENT") || isErrno(thrown, "ESRCH") || isErrno(thrown, "ENODEV")) return null;
    throw thrown;
  }
}

/** Lists the pids in the VM's scope; none if it has no scope. */
export function scopePids(context: HelperContext, vm: string): readonly number[] {
  const text = readGone(join(directoryOf(context, vm), "cgroup.procs")) ?? "";
  return text.split("\n").filter(Boolean).map(Number);
}

/** Lists the ids of VMs that have a scope. */
export function listScopes(context: HelperContext): readonly string[] {
  try {
    return readdirSync(join(context.cgroupRoot, VMS_CGROUP)).flatMap((name) => vmOfScope(name) ?? []);
  } catch (thrown) {
    if (isErrno(thrown, "ENOENT")) return [];
    throw thrown;
  }
}

/** Reads a process's facts and start time from /proc; null if it has ended. */
function readProcess(pid: number): (ProcessFacts & { readonly startTicks: string }) | null {
  const status = readGone(`/proc/${pid}/status`);
  const stat = readGone(`/proc/${pid}/stat`);
  const cgroups = readGone(`/proc/${pid}/cgroup`);
  if (status === null || stat === null || cgroups === null) return null;
  // The real, effective, saved and file system uid must be the same: only then does the process belong to that user
  // alone.
  const uids = /^Uid:\t(\d+)\t(\d+)\t(\d+)\t(\d+)$/m.exec(status)?.slice(1) ?? [];
  // The name is in brackets and may itself contain any byte, including brackets and spaces.
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
 * Finds the VM's Firecracker and holds it by a pidfd; null if none runs. While the pidfd shows a live process, /proc
 * facts read after opening it describe that process, not a later one with the same pid.
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

/** How long a scan may keep other callers waiting, in milliseconds. */
const LOOK_MS = 10;

/**
 * Finds a process with a task that has this id among its uids or gids: real, effective, saved, file system or
 * supplementary. Null if there is none. The attack: with a set-uid file of the VM's, an accomplice holds the id only as
 * its saved uid. Ended tasks that await reaping don't count.
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

/** Tells from the text of /proc/pid/status whether a running task has the id. Pure. Source: proc(5). */
export function hasId(status: string, id: number): boolean {
  if (/^State:\t[ZX]/m.test(status)) return false;
  return [...status.matchAll(/^(?:Uid|Gid|Groups):\t(.*)$/gm)].some(([, ids = ""]) =>
    ids.split(/\s+/).includes(String(id)),
  );
}

/** Sends the signal. Returns false if the process has ended. */
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
 * Kills the whole scope at once, in the kernel, so that no newly forked process escapes, then waits until it is empty.
 * Returns false if it was empty already.
 * @throws BangerError VMM_FAILED if a process is still there after 10 s
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
