import { allowedSignal, isVmProcess, parseSignal } from "../gates.ts";
import { findVmProcess, signalVmProcess } from "../jail/scope.ts";
import { type Verb, vmLock } from "../verb.ts";

export const signalProcess: Verb<"priv.signal_process"> = {
  gates: [allowedSignal],
  facts: [isVmProcess],
  lock: vmLock,
  run: ({ vm, signal }, context) => {
    using found = findVmProcess(context, vm);
    return { sent: found !== null && signalVmProcess(found, parseSignal(signal) ?? "KILL") };
  },
};
