import { isVmProcess } from "../gates.ts";
import { findVmProcess } from "../jail/scope.ts";
import { findSlot } from "../jail/slots.ts";
import type { Verb } from "../verb.ts";

export const findFirecrackerPid: Verb<"priv.find_firecracker_pid"> = {
  gates: [],
  facts: [isVmProcess],
  lock: () => null,
  run: ({ vm }, context) => {
    using process = findVmProcess(context, vm);
    return {
      process: process === null ? null : { pid: process.pid, start_ticks: process.startTicks },
      uid: findSlot(context, vm)?.uid ?? null,
    };
  },
};
