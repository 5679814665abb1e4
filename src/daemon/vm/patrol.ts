/** A look after the VMs that run, now and then. */

import type { AgentWatch } from "../guest/agent/watch.ts";
import { ClockJumps } from "../host/clock-jumps.ts";
import type { PatrolEngine } from "../engine/engine.ts";
import type { VmParts, VmRecords } from "./records.ts";
import type { Restarts } from "./reboots.ts";
import type { Reconciler } from "./reconcile.ts";
import type { Transitions } from "./transitions.ts";

export class Patrol {
  readonly #parts: Pick<VmParts, "vms" | "log" | "config" | "locks"> & { readonly engine: PatrolEngine };
  readonly #records: VmRecords;
  readonly #transitions: Transitions;
  readonly #restarts: Restarts;
  readonly #reconciler: Reconciler;
  readonly #agents: AgentWatch;
  readonly #jumps = new ClockJumps();

  constructor(
    parts: VmParts,
    changes: { readonly records: VmRecords; readonly transitions: Transitions; readonly restarts: Restarts },
    looks: { readonly reconciler: Reconciler; readonly agents: AgentWatch },
  ) {
    this.#parts = parts;
    this.#records = changes.records;
    this.#transitions = changes.transitions;
    this.#restarts = changes.restarts;
    this.#reconciler = looks.reconciler;
    this.#agents = looks.agents;
  }

  /** One look after every running VM: gone VMMs, stale VMs, consoles that grew too long, clocks, silent agents. */
  async run(): Promise<void> {
    const { vms, engine, log, config, locks } = this.#parts;
    await this.#reconciler.retryUnseen();
    for (const { id } of vms.list().filter(({ state }) => state === "running")) {
      await locks.run(id, async () => {
        const vm = vms.get(id);
        if (vm === null || vm.state !== "running") return;
        if ((await engine.vmm.find(id, this.#records.dirs(id).runtime)).length === 0) {
          log.info("the VMM ended by itself", { vm: id });
          await this.#restarts.settleEnded(vm, "the guest powered off, or its VMM ended");
          return;
        }
        if ((await engine.lookAfter?.(vm, this.#records.dirs(id))) === true) {
          log.info("the guest powered off", { vm: id });
          await this.#transitions.settle(vm, "the guest powered off");
          return;
        }
        await engine.trimLogs(id, this.#records.dirs(id));
        const idleMs = Date.now() - Date.parse(vm.touchedAt);
        if (config.auto_stop_stale_after > 0 && idleMs > config.auto_stop_stale_after) {
          log.info("stopping a stale VM", { vm: id, idleMs });
          await this.#transitions.stop(vm, { progress: () => undefined });
        }
      });
    }
    if (this.#jumps.look()) {
      log.info("this host's clock jumped: setting the guests' clocks");
      await this.#agents.setClocks();
    }
    await this.#agents.lookAtAll();
  }
}
