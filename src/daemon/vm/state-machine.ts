/** The one table of legal state changes. */

import { BangerError } from "../../shared/errors.ts";
import type { VmRecord, VmState } from "../../shared/contract/schemas.ts";

const NEXT: Readonly<Record<VmState, readonly VmState[]>> = {
  created: ["starting", "error"],
  starting: ["running", "stopped", "error"],
  running: ["stopping", "stopped", "error"],
  stopping: ["stopped", "error"],
  stopped: ["starting", "error"],
  error: ["starting", "stopping", "stopped"],
};

export function canBecome(from: VmState, to: VmState): boolean {
  return NEXT[from].includes(to);
}

/** The record in its new state. @throws BangerError WRONG_STATE */
export function become(vm: VmRecord, state: VmState, changes: Partial<VmRecord> = {}): VmRecord {
  if (!canBecome(vm.state, state)) {
    throw new BangerError("WRONG_STATE", `${vm.name} is ${vm.state}, so it can't become ${state}`, {
      details: { state: vm.state },
    });
  }
  return { ...vm, reason: null, ...changes, state };
}

/** Fields that say nothing once the VMM is gone. */
export const NOT_RUNNING = {
  pid: null,
  bootId: null,
  agent: null,
  address: null,
  startedAt: null,
  acceleration: null,
} as const;
