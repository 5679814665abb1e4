import { ensureNat as letOut, removeNat } from "../network/firewall.ts";
import { guestAddress, tapName } from "../gates.ts";
import { findGuestBridge, GUEST_BRIDGE_FACTS } from "../network/guest-bridge.ts";
import { networkLock, type Verb } from "../verb.ts";

export const ensureNat: Verb<"priv.ensure_nat"> = {
  gates: [guestAddress, tapName],
  facts: GUEST_BRIDGE_FACTS,
  byDesign: {
    rule: "a packet with the guest's address from another tap is dropped at that tap",
    stops: "a guest without NAT using the address of a guest that has it",
  },
  lock: networkLock,
  run: async ({ guest_ip, tap, enable }, context) => {
    const guest = { guestIp: guest_ip, tap };
    if (!enable) {
      await removeNat(context, guest);
      return { uplink: null };
    }
    return { uplink: await letOut(context, guest, findGuestBridge({ tap, guest_ip })) };
  },
};
