/** Guests that reboot. A VMM ends with its guest, so the daemon starts the VM again. */

import type { VmId, VmRecord } from "../../shared/contract/schemas.ts";
import { toBangerError } from "../../shared/errors.ts";
import type { GuestAccess } from "../engine/guest-access.ts";
import { isReboot, LAST_WORDS_BYTES } from "../guest/last-words.ts";
import { readTail } from "../guest/ready.ts";
import { openForUse } from "../guest/ssh/open.ts";
import type { Run, VmParts, VmRecords } from "./records.ts";
import type { Transitions } from "./transitions.ts";

/** The reason of a VM between its guest's reboot and the start that follows. */
export const REBOOTED = "the guest rebooted";

/** A guest that is up for less than this before it reboots may be caught in a loop. */
const QUICK_MS = 60_000;
/** Quick reboots in a row that are followed. */
const QUICK_REBOOTS = 3;

/** Counts reboots: a guest caught in a loop is not followed for ever. */
export class Reboots {
  readonly #quick = new Map<VmId, number>();

  /** Whether a guest that rebooted after so long is started again. Called once for each reboot. */
  allow(id: VmId, upMs: number): boolean {
    if (upMs >= QUICK_MS) {
      this.#quick.delete(id);
      return true;
    }
    const count = (this.#quick.get(id) ?? 0) + 1;
    this.#quick.set(id, count);
    return count <= QUICK_REBOOTS;
  }

  /** Somebody started or removed it: what was before doesn't count. */
  forget(id: VmId): void {
    this.#quick.delete(id);
  }
}

/** What the work comes to, or what ended the wait for it. The work itself goes on. */
async function orAborted<T>(work: Promise<T>, signal: AbortSignal): Promise<T> {
  const aborted = Promise.withResolvers<never>();
  const onAbort = (): void => aborted.reject(signal.reason);
  signal.addEventListener("abort", onAbort);
  if (signal.aborted) onAbort();
  try {
    return await Promise.race([work, aborted.promise]);
  } finally {
    signal.removeEventListener("abort", onAbort);
  }
}

/** VMs whose VMM ended without being asked. */
export class Restarts {
  readonly #parts: Omit<VmParts, "engine"> & { readonly engine: GuestAccess };
  readonly #records: VmRecords;
  readonly #transitions: Transitions;
  readonly #reboots: Reboots;
  readonly #background = new Set<Promise<void>>();
  readonly #ending = new AbortController();

  constructor(parts: VmParts, records: VmRecords, transitions: Transitions, reboots: Reboots) {
    this.#parts = parts;
    this.#records = records;
    this.#transitions = transitions;
    this.#reboots = reboots;
  }

  /** The VMM ended and nobody asked it to: settled, and started again when the guest's last words were that it reboots. */
  async settleEnded(vm: VmRecord, otherwise: string): Promise<void> {
    const { engine, log } = this.#parts;
    const lastWords = await (async () => {
      using serial = engine.openLog(vm.id, this.#records.dirs(vm.id), "serial");
      return serial === null ? "" : await readTail(serial.path, LAST_WORDS_BYTES);
    })();
    if (!isReboot(lastWords)) {
      await this.#transitions.settle(vm, otherwise);
      return;
    }
    const upMs = Date.now() - Date.parse(vm.startedAt ?? vm.createdAt);
    if (!this.#reboots.allow(vm.id, upMs)) {
      log.warn("the guest reboots again and again, and is not started any more", { vm: vm.id });
      await this.#transitions.settle(vm, "the guest rebooted again and again, each time soon after its start");
      return;
    }
    await this.#transitions.settle(vm, REBOOTED);
    log.info("the guest rebooted, and is started again", { vm: vm.id, upMs });
    this.startAgainLater(vm.id);
  }

  /** Starts a VM whose guest rebooted, when its lock is free and nobody came first. */
  startAgainLater(id: VmId): void {
    this.#inBackground(id, async (run) => await this.#startAgain(id, run));
  }

  /** The start after a reboot, with the forwards that there were. */
  async #startAgain(id: VmId, run: Run): Promise<void> {
    const { engine, forwards, guest, log, vms } = this.#parts;
    const vm = vms.get(id);
    // Somebody may have come first.
    if (vm === null || vm.state !== "stopped" || vm.reason !== REBOOTED) return;
    const before = forwards.list(id);
    let started: VmRecord;
    try {
      started = await this.#transitions.start(vm, run);
    } catch (thrown) {
      const left = vms.get(id);
      // The daemon ends: the next one goes on.
      if (run.signal.aborted && left?.state === "stopped") await this.#records.save({ ...left, reason: REBOOTED });
      throw thrown;
    }
    const address = this.#records.addressOf(started);
    if (address === null || before.length === 0) return;
    const { readyMs } = engine.deadlines(started.acceleration ?? "tcg");
    try {
      await orAborted(openForUse(guest, address, started, readyMs), run.signal);
    } catch (thrown) {
      log.warn("the forwards are gone with the reboot", { vm: id, error: toBangerError(thrown).message });
      return;
    }
    for (const { hostPort, guestPort } of before) {
      try {
        await guest.addForward(address, hostPort, guestPort);
        forwards.add({ vm: id, hostPort, guestPort });
      } catch (thrown) {
        log.warn("a forward is gone with the reboot", { vm: id, hostPort, error: toBangerError(thrown).message });
      }
    }
  }

  /** Work on a VM that nobody waits for, under its lock. The daemon's end cancels it and waits until it is undone. */
  #inBackground(id: VmId, work: (run: Run) => Promise<void>): void {
    const { locks, log } = this.#parts;
    const { signal } = this.#ending;
    const done: Promise<void> = locks
      .run(id, async () => {
        if (!signal.aborted) await work({ signal, progress: () => undefined });
      })
      .catch((thrown: unknown) => log.error("work on a VM failed", { vm: id, error: toBangerError(thrown).message }))
      .finally(() => this.#background.delete(done));
    this.#background.add(done);
  }

  /** Resolves when everything that was begun by the daemon itself has ended. */
  async settled(): Promise<void> {
    while (this.#background.size > 0) await Promise.all(this.#background);
  }

  /** The daemon ends: nothing new is begun, and what is under way is undone. */
  async close(): Promise<void> {
    this.#ending.abort();
    await this.settled();
  }
}
