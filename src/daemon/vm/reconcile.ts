/** Makes the records and the host agree when a daemon starts, whatever the one before was doing when it ended. */

import { readdir } from "node:fs/promises";
import { dirname } from "node:path";
import * as v from "valibot";
import { VmId, type VmRecord } from "../../shared/contract/schemas.ts";
import { toBangerError } from "../../shared/errors.ts";
import { ensurePrivateDirectory } from "../../shared/places/private-directory.ts";
import type { PatrolEngine } from "../engine/engine.ts";
import { readHandles } from "../store/handles.ts";
import type { JournalOperation } from "../store/journal.ts";
import { REBOOTED, type Restarts } from "./reboots.ts";
import type { VmParts, VmRecords } from "./records.ts";
import type { Transitions } from "./transitions.ts";

export class Reconciler {
  readonly #parts: Omit<VmParts, "engine"> & { readonly engine: PatrolEngine };
  readonly #records: VmRecords;
  readonly #transitions: Transitions;
  readonly #restarts: Restarts;
  /** VMs that could not be looked at, with what was under way of each. */
  readonly #unseen = new Map<VmId, ReadonlySet<JournalOperation>>();

  constructor(parts: VmParts, records: VmRecords, transitions: Transitions, restarts: Restarts) {
    this.#parts = parts;
    this.#records = records;
    this.#transitions = transitions;
    this.#restarts = restarts;
  }

  /**
   * Makes the records true after a restart of the daemon, crash or not: finishes or takes back what was under
   * way, adopts the VMs that still run, and knows VMs again whose row was lost.
   */
  async reconcile(): Promise<void> {
    const { vms, journal, log, paths } = this.#parts;
    for (const id of vms.removeNameless()) log.error("removed a row of the store whose id is none", { id });
    const underway = new Map<string, Set<JournalOperation>>();
    for (const { vm, operation } of journal.list()) {
      if (v.is(VmId, vm)) underway.set(vm, (underway.get(vm) ?? new Set()).add(operation));
      else journal.clearVm(vm);
    }
    for (const name of await readdir(paths.vmsDir).catch(() => [])) {
      const id = v.safeParse(VmId, name);
      if (!id.success || underway.has(name)) continue;
      const row = vms.read(id.output);
      if (row !== null && row.flaw === null) continue;
      const vm = await readHandles(this.#records.dirs(name).state);
      if (vm === null || vm.id !== id.output) continue;
      try {
        if (row === null) vms.insert(vm);
        else vms.update(vm);
        log.warn("knew a VM again from its handles", { vm: name, ...(row === null ? {} : { flaw: row.flaw }) });
      } catch (thrown) {
        log.error("handles of a VM can't be used", { vm: name, error: toBangerError(thrown).message });
      }
    }
    const ids = new Set([...vms.list().map(({ id }) => id), ...[...underway.keys()].map((id) => v.parse(VmId, id))]);
    await Promise.all(
      [...ids].map(async (id) => {
        try {
          await this.#reconcileOne(id, underway.get(id) ?? new Set());
        } catch (thrown) {
          const error = toBangerError(thrown);
          log.error("could not be reconciled", { vm: id, error: error.message });
          const row = vms.read(id);
          if (row === null || row.flaw !== null) return;
          const { record: vm } = row;
          // What can't be seen now may well run: the patrol looks again.
          if (vm.state === "running") this.#unseen.set(id, underway.get(id) ?? new Set());
          else vms.update({ ...vm, state: "error", reason: error.message });
        }
      }),
    );
  }

  /** Looks once more at the VMs that could not be looked at. */
  async retryUnseen(): Promise<void> {
    const { locks, log } = this.#parts;
    for (const [id, underway] of this.#unseen) {
      try {
        await locks.run(id, async () => await this.#reconcileOne(id, underway));
        this.#unseen.delete(id);
      } catch (thrown) {
        log.warn("still not reconciled", { vm: id, error: toBangerError(thrown).message });
      }
    }
  }

  async #reconcileOne(id: VmId, underway: ReadonlySet<JournalOperation>): Promise<void> {
    const { vms, log, journal, engine } = this.#parts;
    const row = vms.read(id);
    if (row === null || underway.has("create")) {
      log.warn("taking back an unfinished create", { vm: id });
      return await this.#transitions.discard(id);
    }
    const { record: vm, flaw } = row;
    if (underway.has("delete")) {
      log.warn("finishing a delete", { vm: id });
      return await this.#transitions.remove(vm);
    }
    if (flaw !== null) {
      // What may run of it is left alone: whether it should is what can't be read.
      log.error("the record of a VM is damaged", { vm: id, flaw });
      return;
    }
    const processes = await engine.vmm.find(id, this.#records.dirs(id).runtime);
    if (underway.has("stop") || underway.has("start") || vm.state === "starting" || vm.state === "stopping") {
      // A start that was seen to its end has its row saved as running before its journal is cleared.
      if (vm.state === "running" && processes.length > 0 && !underway.has("stop")) {
        journal.clearVm(id);
      } else if (vm.state === "running" && underway.has("start")) {
        await this.#transitions.settle(vm, "the daemon ended during the start");
        return;
      } else {
        log.warn("ending what was under way", { vm: id, state: vm.state });
        if (vm.state === "stopping") this.#finishStop(vm);
        else
          await this.#transitions.settle(vm, vm.state === "starting" ? "the daemon ended during the start" : vm.reason);
        return;
      }
    }
    if (vm.state !== "running") {
      // Nothing may run of a VM that is recorded as stopped.
      if (processes.length > 0) await this.#transitions.settle(vm, vm.reason);
      if (vm.reason === REBOOTED) this.#restarts.startAgainLater(id);
      return;
    }
    if (processes.length === 0) {
      await this.#restarts.settleEnded(vm, "the VMM ended while no daemon ran");
      return;
    }
    // A logout may have taken the runtime directory away under the VM.
    const { runtime } = this.#records.dirs(id);
    await ensurePrivateDirectory(dirname(runtime));
    await ensurePrivateDirectory(runtime);
    log.info("adopted", { vm: id, pid: processes[0]?.pid });
    await this.#records.save({ ...vm, pid: processes[0]?.pid ?? null });
    await engine.adopt?.(vm);
  }

  /** A stop that a crash cut short still gives the guest its time to write. Takes long, so nobody waits for it. */
  #finishStop(vm: VmRecord): void {
    const { locks, log, vms } = this.#parts;
    void locks
      .run(vm.id, async () => {
        await this.#transitions.stop({ ...vm, state: "running" }, { progress: () => undefined });
      })
      .catch((thrown: unknown) => {
        const error = toBangerError(thrown);
        log.error("an unfinished stop could not be finished", { vm: vm.id, error: error.message });
        vms.update({ ...vm, state: "error", reason: error.message });
      });
  }
}
