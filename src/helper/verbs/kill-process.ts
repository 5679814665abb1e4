import { killScope } from "../jail/scope.ts";
import { type Verb, vmLock } from "../verb.ts";

export const killProcess: Verb<"priv.kill_process"> = {
  gates: [],
  facts: [],
  byDesign: {
    rule: "no pid is taken: the kernel kills what is in that VM's scope, which only root may put processes into",
    stops: "killing sshd or init; a VMM that escapes by forking or renaming itself",
  },
  lock: vmLock,
  run: async ({ vm }, context) => ({ killed: await killScope(context, vm) }),
};
