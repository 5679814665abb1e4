/** The parts of a VM's life, put together. */

import { AgentWatch } from "../guest/agent/watch.ts";
import { CpuMeter } from "../host/cpu-meter.ts";
import { Lifecycle } from "./lifecycle.ts";
import { Patrol } from "./patrol.ts";
import { Queries } from "./queries.ts";
import { Reboots, Restarts } from "./reboots.ts";
import { Reconciler } from "./reconcile.ts";
import { type VmParts, VmRecords } from "./records.ts";
import { Transitions } from "./transitions.ts";

export interface VmService {
  readonly parts: VmParts;
  readonly records: VmRecords;
  readonly lifecycle: Lifecycle;
  readonly restarts: Restarts;
  readonly reconciler: Reconciler;
  readonly patrol: Patrol;
  readonly queries: Queries;
  readonly agents: AgentWatch;
}

export function createVmService(parts: VmParts): VmService {
  const [records, cpu, reboots] = [new VmRecords(parts), new CpuMeter(), new Reboots()];
  const transitions = new Transitions(parts, records, (id) => {
    cpu.forget(id);
    reboots.forget(id);
  });
  const restarts = new Restarts(parts, records, transitions, reboots);
  const reconciler = new Reconciler(parts, records, transitions, restarts);
  const agents = new AgentWatch(parts, (vm) => records.addressOf(vm));
  return {
    parts,
    records,
    lifecycle: new Lifecycle(parts, records, transitions, reboots),
    restarts,
    reconciler,
    patrol: new Patrol(parts, { records, transitions, restarts }, { reconciler, agents }),
    queries: new Queries(parts, records, { cpu, agents }),
    agents,
  };
}
