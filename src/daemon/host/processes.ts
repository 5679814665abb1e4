/** Processes of this host, read from /proc: named by pid and start time, found by what stands in their argv. */

import { readdir, readFile } from "node:fs/promises";
import { BangerError } from "../../shared/errors.ts";
import type { CpuReading } from "./cpu-meter.ts";
import type { ProcessIdentity } from "../engine/vmm.ts";

/** Fields of /proc/pid/stat after the command name, which may itself hold blanks and brackets (proc(5)). */
async function readStat(pid: number): Promise<readonly string[] | null> {
  const text = await readFile(`/proc/${pid}/stat`, "utf8").catch(() => null);
  return text === null ? null : text.slice(text.lastIndexOf(")") + 2).split(" ");
}

/** The identity of a live process; null when there is none or only a zombie of it. */
export async function identifyProcess(pid: number): Promise<ProcessIdentity | null> {
  const fields = await readStat(pid);
  if (fields === null || fields[0] === "Z" || fields[0] === "X") return null;
  return { pid, startTicks: fields[19] ?? "" };
}

export async function isAlive(identity: ProcessIdentity): Promise<boolean> {
  return (await identifyProcess(identity.pid))?.startTicks === identity.startTicks;
}

/** Live processes of this uid whose argv satisfies `matches`. */
export async function findProcesses(
  matches: (argv: readonly string[]) => boolean,
): Promise<readonly ProcessIdentity[]> {
  const uid = process.getuid?.() ?? -1;
  const found: ProcessIdentity[] = [];
  for (const entry of await readdir("/proc")) {
    const pid = Number(entry);
    if (!Number.isInteger(pid) || pid === process.pid) continue;
    const commandLine = await readFile(`/proc/${pid}/cmdline`, "utf8").catch(() => "");
    if (commandLine === "" || !matches(commandLine.split("\0"))) continue;
    const status = await readFile(`/proc/${pid}/status`, "utf8").catch(() => "");
    if (Number(/^Uid:\t(\d+)/m.exec(status)?.[1] ?? -1) !== uid) continue;
    const identity = await identifyProcess(pid);
    if (identity !== null) found.push(identity);
  }
  return found;
}

/** Sends a signal; a process that is gone, or whose pid is another's by now, is left alone. */
export async function signalProcess(identity: ProcessIdentity, signal: NodeJS.Signals): Promise<void> {
  if (!(await isAlive(identity))) return;
  try {
    process.kill(identity.pid, signal);
  } catch (thrown) {
    if ((thrown as NodeJS.ErrnoException).code !== "ESRCH") throw thrown;
  }
}

/** Waits until the process has ended. True when it has, false past the deadline. */
export async function waitUntilGone(
  identity: ProcessIdentity,
  timeoutMs: number,
  signal?: AbortSignal,
): Promise<boolean> {
  const deadline = Date.now() + timeoutMs;
  for (let waitMs = 2; ; waitMs = Math.min(waitMs * 2, 100)) {
    if (!(await isAlive(identity))) return true;
    if (Date.now() > deadline) return false;
    signal?.throwIfAborted();
    await Bun.sleep(waitMs);
  }
}

/** SIGKILL, then waits. @throws BangerError VMM_FAILED when the process outlives SIGKILL by 10 s. */
export async function killProcess(identity: ProcessIdentity): Promise<void> {
  await signalProcess(identity, "SIGKILL");
  if (!(await waitUntilGone(identity, 10_000))) {
    throw new BangerError("VMM_FAILED", `process ${identity.pid} did not end after SIGKILL; it hangs in the kernel`);
  }
}

/** What a live process has used so far; null when there is none. */
export async function readUsage(
  pid: number,
): Promise<{ readonly cpu: CpuReading; readonly residentBytes: number } | null> {
  const fields = await readStat(pid);
  if (fields === null) return null;
  const uptimeSeconds = Number((await readFile("/proc/uptime", "utf8")).split(" ")[0]);
  return {
    cpu: {
      pid,
      startTicks: Number(fields[19]),
      cpuTicks: Number(fields[11]) + Number(fields[12]),
      atMs: uptimeSeconds * 1000,
    },
    residentBytes: Number(fields[21]) * 4096,
  };
}
