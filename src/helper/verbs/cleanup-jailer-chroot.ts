import { BangerError } from "../../shared/errors.ts";
import { nothingMounted } from "../gates.ts";
import { removeJail } from "../jail.ts";
import { scopePids } from "../scope.ts";
import { type Verb, vmLock } from "../verb.ts";

export const cleanupJailerChroot: Verb<"priv.cleanup_jailer_chroot"> = {
  gates: [],
  facts: [nothingMounted],
  byDesign: {
    rule: "a directory is entered only through its descriptor and only when it is a VM's or the owner's",
    stops: "having root delete root's files in a directory that the owner moved into the jail",
  },
  lock: vmLock,
  run: ({ vm }, context) => {
    if (scopePids(context, vm).length > 0) throw new BangerError("IN_USE", `${vm} runs`);
    removeJail(context, vm);
    return {};
  },
};
