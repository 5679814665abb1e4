import { isVmProcess } from "../gates.ts";
import { findVmProcess } from "../scope.ts";
import type { Verb } from "../verb.ts";

export const processRunning: Verb<"priv.process_running"> = {
  gates: [],
  facts: [isVmProcess],
  byDesign: {
    rule: "pid and start time are compared with what was found, never used to find",
    stops: "asking about processes that are no VM's",
  },
  lock: () => null,
  run: ({ vm, process: asked }, context) => {
    using found = findVmProcess(context, vm);
    return { running: found !== null && found.pid === asked.pid && found.startTicks === asked.start_ticks };
  },
};
