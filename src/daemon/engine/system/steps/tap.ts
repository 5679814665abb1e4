import { BangerError } from "../../../../shared/errors.ts";
import type { GuestNetwork } from "../network/guest-network.ts";
import type { Step, UndoContext } from "../../step.ts";

/** The guest's address by the VM's records, whichever is left; null when none is. */
export type AddressOf = (context: Pick<UndoContext, "id" | "dirs">) => Promise<string | null>;

/** The guest's tap on the bridge. */
export function tap(network: GuestNetwork, addressOf: AddressOf): Step {
  return {
    name: "tap",
    do: async ({ vm }) => {
      const { guestIp } = vm;
      if (guestIp === undefined || guestIp === null) throw new BangerError("INTERNAL", `${vm.name} has no address`);
      await network.attach(guestIp);
    },
    undo: async (context) => {
      const guestIp = await addressOf(context);
      if (guestIp !== null) await network.detach(guestIp);
    },
  };
}

/** The way out, for a VM that has it. */
export function nat(network: GuestNetwork, addressOf: AddressOf): Step {
  return {
    name: "nat",
    // It needs the tap; the guest meanwhile boots.
    together: true,
    do: async ({ vm }) => {
      const { guestIp } = vm;
      if (vm.spec.nat && guestIp !== undefined && guestIp !== null) await network.setNat(guestIp, true);
    },
    undo: async (context) => {
      const guestIp = await addressOf(context);
      if (guestIp !== null) await network.setNat(guestIp, false);
    },
  };
}
