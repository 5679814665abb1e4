/** Waiting until a command runs in the guest (lifecycle.md "Ready means"). */

import { open } from "node:fs/promises";
import { BangerError } from "../../shared/errors.ts";
import type { ProcessIdentity } from "../engine/vmm.ts";
import { isAlive } from "../host/processes.ts";
import type { Guest, GuestAddress } from "./ssh/guest.ts";

const FIRST_PROBE_MS = 20;
const SLOWEST_PROBE_MS = 100;
/** A forward may swallow a probe sent before the guest's network is up; a new one answers sooner than its retry. */
const SHORTEST_PROBE_MS = 1000;
/**
 * A probe's patience grows with the time the guest has taken: each costs it a process, and one that is merely slow (many
 * on a busy host) would otherwise be asked anew for ever, and never come to answer.
 */
const PATIENCE_SHARE = 1 / 6;
/** How often a booting guest is looked at for a panic or its VMM's end. */
const HEALTH_CHECK_MS = 500;
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

/**
 * Waits for sshd's banner, opens the control connection and reads the guest's boot id.
 * @throws BangerError GUEST_NOT_READY past the deadline or at a kernel panic, VMM_FAILED when the VMM ended.
 */
export async function waitUntilReady(
  guest: Guest,
  address: GuestAddress,
  vm: {
    readonly name: string;
    readonly process: ProcessIdentity;
    readonly serialLogPath: string;
    readonly vmmLogPath: string;
  },
  deadlineMs: number,
  signal: AbortSignal,
): Promise<{ readonly bootId: string }> {
  const deadline = Date.now() + deadlineMs;
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
  const began = Date.now();
  const check = async (): Promise<void> => {
    const alive = await isAlive(vm.process);
    // The console first: a panic ends the VMM too, and is the better answer.
    if ((await readTail(vm.serialLogPath, 8192)).includes(PANIC)) {
      const beforeInit = isPanicBeforeInit(await readTail(vm.serialLogPath, BOOT_LOG_BYTES));
      await fail("GUEST_NOT_READY", "the guest's kernel panicked", {
        panic: beforeInit ? "before init" : "after init",
      });
    }
    if (!alive) await fail("VMM_FAILED", "the VMM stopped while the guest was booting");
    if (Date.now() > deadline)
      await fail("GUEST_NOT_READY", `the guest did not answer within ${Math.round(deadlineMs / 1000)} s`);
  };
  const remaining = (): number => Math.max(1000, deadline - Date.now());
  if (address.jailRoot === undefined) {
    for (let waitMs = FIRST_PROBE_MS; ; waitMs = Math.min(waitMs * 1.5, SLOWEST_PROBE_MS)) {
      signal.throwIfAborted();
      if (await guest.answers(address, probePatience(Date.now() - began), signal)) break;
      await check();
      await Bun.sleep(waitMs);
    }
    await guest.open(address, Math.min(remaining(), 60_000), signal);
  } else {
    // ssh's own way in waits for the guest: a probe would cost it a process each.
    await openWhile(check, guest, address, remaining, signal);
  }
  const result = await guest.run(
    address,
    ["cat", "/proc/sys/kernel/random/boot_id"],
    Math.min(remaining(), 60_000),
    signal,
  );
  const bootId = result.stdout.trim();
  if (result.exitCode !== 0 || !BOOT_ID.test(bootId)) {
    throw new BangerError(
      "GUEST_NOT_READY",
      `the first command in the guest ended with ${result.exitCode}: ${result.stderr.trim()}`,
      { hint: `banger vm logs ${vm.name}` },
    );
  }
  return { bootId };
}

/** How long a probe waits for an answer, by how long the guest has been starting. */
export function probePatience(elapsedMs: number): number {
  return Math.max(SHORTEST_PROBE_MS, Math.round(elapsedMs * PATIENCE_SHARE));
}

/** Opens the control connection, again when a guest that is half up hangs up, for as long as `check` doesn't throw. */
async function openWhile(
  check: () => Promise<void>,
  guest: Guest,
  address: GuestAddress,
  remaining: () => number,
  signal: AbortSignal,
): Promise<void> {
  for (;;) {
    const stop = new AbortController();
    const opening = guest.open(address, remaining(), AbortSignal.any([signal, stop.signal])).then(
      () => null,
      (thrown: unknown) => ({ thrown }),
    );
    try {
      for (;;) {
        const ended = await Promise.race([opening, Bun.sleep(HEALTH_CHECK_MS)]);
        if (ended === null) return;
        signal.throwIfAborted();
        await check();
        if (ended === undefined) continue;
        if (!(ended.thrown instanceof BangerError) || ended.thrown.code !== "GUEST_NOT_READY") throw ended.thrown;
        await Bun.sleep(SLOWEST_PROBE_MS);
        break;
      }
    } catch (thrown) {
      stop.abort();
      await opening;
      throw thrown;
    }
  }
}
