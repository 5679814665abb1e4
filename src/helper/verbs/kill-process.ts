import { killScope } from "../jail/scope.ts";
import { type Verb, vmLock } from "../verb.ts";

export const killProcess: Verb<"priv.kill_process"> = {
  gates: [],
  facts: [],
  byDesign: {
    rule: "takes no pid: the kernel kills everything in that VM's scope, and only root may put processes there",
    stops: "killing sshd or init; a VMM escaping by forking or renaming itself",
  },
  lock: vmLock,
  run: async ({ vm }, context) => ({ killed: await killScope(context, vm) }),
};
