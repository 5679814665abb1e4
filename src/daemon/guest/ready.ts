/** Waiting until a command runs in the guest (lifecycle.md "Ready means"). */

import { open } from "node:fs/promises";
import { BangerError } from "../../shared/errors.ts";
import type { AgentReady } from "../../shared/agent/answers.ts";
import type { VmRecord } from "../../shared/contract/schemas.ts";
import type { ProcessIdentity } from "../engine/vmm.ts";
import { isAlive } from "../host/processes.ts";
import type { Guest, GuestAddress } from "./guest.ts";
import { HEALTH_CHECK_MS, openWhenUp, type Wait } from "./ssh/open.ts";

/**
 * The share of its deadline in which a guest with an agent is not asked over ssh: each probe costs it a process, and is only of use
 * when the agent never answers.
 */
const AGENT_SHARE = 1 / 15;
/** The share in which a guest's first process begins, also where many boot at once: five times as long as seen with a load of 30. */
const BEGIN_SHARE = 2 / 5;
const FIRST_COMMAND_MS = 60_000;
const BOOT_ID = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/;

/** How long a guest may take: emulated ones need much longer, the more so several at once. */
export const READY_DEADLINE_MS = { kvm: 60_000, tcg: 300_000 } as const;

/** The end of a log file as text, without what was cut out of it. */
export async function readTail(path: string, bytes: number): Promise<string> {
  return (await readTailBytes(path, bytes)).toString("utf8");
}

/** {@link readTail}, byte for byte. */
export async function readTailBytes(path: string, bytes: number): Promise<Buffer> {
  const file = await open(path, "r").catch(() => null);
  if (file === null) return Buffer.alloc(0);
  try {
    const { size } = await file.stat();
    const buffer = Buffer.alloc(Math.min(size, bytes));
    await file.read(buffer, 0, buffer.length, size - buffer.length);
    return buffer.includes(0) ? (buffer.filter((byte) => byte !== 0) as Buffer) : buffer;
  } finally {
    await file.close();
  }
}

const PANIC = "Kernel panic";
/** More than a kernel says before its init. */
const BOOT_LOG_BYTES = 256 * 1024;

/**
 * Whether a boot's console tells of a panic before the first word of the guest's init: until then every line is the
 * kernel's, with its time stamp. Pure.
 */
export function isPanicBeforeInit(console: string): boolean {
  const at = console.indexOf(PANIC);
  if (at === -1) return false;
  const lines = console.slice(0, at).split(/\r?\n/);
  return lines.every((line) => line === "" || /^\[ *\d+\.\d{6}\]/.test(line));
}

/** A guest that starts, and where its last words are. */
export interface StartingGuest {
  readonly name: string;
  readonly process: ProcessIdentity;
  readonly serialLogPath: string;
  readonly vmmLogPath: string;
  /** Waits for its agent's word that commands can run; null for a guest without one. */
  readonly waitForAgent: ((timeoutMs: number, signal: AbortSignal) => Promise<AgentReady>) | null;
  /** Whether its first process has begun. Left out where nobody can tell, or a slow one isn't lost. */
  readonly hasBegun?: (() => boolean) | undefined;
}

export type Ready = Pick<VmRecord, "bootId" | "agent">;

/**
 * Waits until the guest's agent says that commands can run. A guest without one, or whose agent stays silent, is ready when a command
 * ran over ssh; so is one whose work disk its agent left to the image.
 * @throws BangerError GUEST_NOT_READY past the deadline or at a kernel panic, VMM_FAILED when the VMM ended.
 */
export async function waitUntilReady(
  guest: Pick<Guest, "answers" | "open" | "run">,
  address: GuestAddress,
  vm: StartingGuest,
  deadlineMs: number,
  signal: AbortSignal,
): Promise<Ready> {
  const began = Date.now();
  const wait: Wait = {
    remainingMs: () => Math.max(1000, began + deadlineMs - Date.now()),
    check: async () => await checkBoot(vm, began, deadlineMs),
    signal,
  };
  if (vm.waitForAgent === null) return { bootId: await readyBySsh(guest, address, vm, wait), agent: null };
  const stop = new AbortController();
  const either = AbortSignal.any([signal, stop.signal]);
  let said: AgentReady | null = null;
  const byAgent = vm.waitForAgent(deadlineMs, either).then(
    (answer) => {
      said = answer;
      return isReady(answer) ? answer : null;
    },
    (thrown: unknown) => {
      if (thrown instanceof BangerError) return null;
      throw thrown;
    },
  );
  try {
    const answer = await waitAlone(byAgent, began + deadlineMs * AGENT_SHARE, wait);
    if (answer !== null) return { bootId: answer.bootId, agent: "answers" };
    const bySsh = readyBySsh(guest, address, vm, { ...wait, signal: either });
    const first = await Promise.race([bySsh, byAgent.then(async (late) => late ?? (await bySsh))]);
    if (typeof first === "string") return { bootId: first, agent: said === null ? "silent" : "answers" };
    stop.abort();
    await bySsh.catch(() => undefined);
    return { bootId: first.bootId, agent: "answers" };
  } finally {
    stop.abort();
    await byAgent;
  }
}

/** Whether the agent did all of a boot that its guest's user sees. */
const isReady = ({ workDisk, isInit }: AgentReady): boolean => workDisk || isInit;

/** The agent's answer; null when it is none that settles it, or there is none by `until`. */
async function waitAlone(
  byAgent: Promise<AgentReady | null>,
  until: number,
  { check, signal }: Wait,
): Promise<AgentReady | null> {
  while (Date.now() < until) {
    const answer = await Promise.race([byAgent, Bun.sleep(HEALTH_CHECK_MS)]);
    signal.throwIfAborted();
    if (answer !== undefined) return answer;
    await check();
  }
  return null;
}

/** Waits for sshd, opens the control connection and reads the guest's boot id. */
async function readyBySsh(
  guest: Pick<Guest, "answers" | "open" | "run">,
  address: GuestAddress,
  { name }: StartingGuest,
  wait: Wait,
): Promise<string> {
  await openWhenUp(guest, address, wait);
  const asked = ["cat", "/proc/sys/kernel/random/boot_id"];
  const result = await guest.run(address, asked, Math.min(wait.remainingMs(), FIRST_COMMAND_MS), wait.signal);
  const bootId = result.stdout.trim();
  if (result.exitCode === 0 && BOOT_ID.test(bootId)) return bootId;
  throw new BangerError(
    "GUEST_NOT_READY",
    `the first command in the guest ended with ${result.exitCode}: ${result.stderr.trim()}`,
    { hint: `banger vm logs ${name}` },
  );
}

/** @throws BangerError GUEST_NOT_READY, VMM_FAILED when there is nothing more to wait for */
async function checkBoot(vm: StartingGuest, began: number, deadlineMs: number): Promise<void> {
  const fail = async (
    code: "GUEST_NOT_READY" | "VMM_FAILED",
    why: string,
    more: Readonly<Record<string, unknown>> = {},
  ): Promise<never> => {
    const lastLines = async (path: string, count: number): Promise<readonly string[]> =>
      (await readTail(path, 8192)).trim().split("\n").slice(-count);
    const console = await lastLines(vm.serialLogPath, 20);
    const vmm = code === "VMM_FAILED" ? await lastLines(vm.vmmLogPath, 5) : [];
    const quoted = (lines: readonly string[]): string => lines.map((line) => `  ${line}`).join("\n");
    const message = `${why}; the end of the console:\n${quoted(console)}`;
    throw new BangerError(code, vmm.length === 0 ? message : `${message}\nand of the VMM's log:\n${quoted(vmm)}`, {
      details: { console, vmm, ...more },
      hint: `banger vm logs ${vm.name}`,
    });
  };
  const alive = await isAlive(vm.process);
  // The console first: a panic ends the VMM too, and is the better answer.
  if ((await readTail(vm.serialLogPath, 8192)).includes(PANIC)) {
    const beforeInit = isPanicBeforeInit(await readTail(vm.serialLogPath, BOOT_LOG_BYTES));
    await fail("GUEST_NOT_READY", "the guest's kernel panicked", {
      lost: beforeInit ? "before init" : "after init",
    });
  }
  if (!alive) await fail("VMM_FAILED", "the VMM stopped while the guest was booting");
  if (vm.hasBegun?.() === false && Date.now() > began + deadlineMs * BEGIN_SHARE)
    await fail("GUEST_NOT_READY", "the guest's kernel never began its first process", { lost: "before init" });
  if (Date.now() > began + deadlineMs)
    await fail("GUEST_NOT_READY", `the guest did not answer within ${Math.round(deadlineMs / 1000)} s`);
}
