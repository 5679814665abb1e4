import { isVmProcess, jailSocket } from "../gates.ts";
import { admit } from "../launch.ts";
import { type Verb, vmLock } from "../verb.ts";

export const ensureSocketAccess: Verb<"priv.ensure_socket_access"> = {
  gates: [],
  facts: [isVmProcess, jailSocket],
  lock: vmLock,
  run: ({ vm }, context) => ({ jail_root: admit(context, vm) }),
};
