import { BangerError } from "../../shared/errors.ts";
import { removeJail } from "../jail/jail.ts";
import { scopePids } from "../jail/scope.ts";
import { type Verb, vmLock } from "../verb.ts";

export const cleanupJailerChroot: Verb<"priv.cleanup_jailer_chroot"> = {
  gates: [],
  facts: [],
  byDesign: {
    rule: "below the chroot base, through no link; a directory is entered only through its descriptor and only when it is a VM's or the owner's; what is mounted below is detached, never entered; any name, any depth, any number of files, without keeping others waiting",
    stops:
      "deleting or unmounting a tree of the host's; having root delete root's files in a directory that the owner moved into the jail; a jail that can't be removed",
  },
  lock: vmLock,
  run: async ({ vm }, context) => {
    if (scopePids(context, vm).length > 0) throw new BangerError("IN_USE", `${vm} runs`);
    await removeJail(context, vm);
    return {};
  },
};
