import { guestAddress, tapName } from "../gates.ts";
import { findGuestBridge, GUEST_BRIDGE_FACTS } from "../network/guest-bridge.ts";
import { sendProbe } from "../network/nat-probe.ts";
import { networkLock, type Verb } from "../verb.ts";

export const probeNat: Verb<"priv.probe_nat"> = {
  gates: [guestAddress, tapName],
  facts: GUEST_BRIDGE_FACTS,
  byDesign: {
    rule: "sends one frame a call, made entirely by the helper, to a documentation address (RFC 5737), and only into a tap that no VMM has open",
    stops: "sending as a running guest, or sending anything of the caller's choice",
  },
  lock: networkLock,
  run: async ({ guest_ip, tap }) =>
    await sendProbe({ guestIp: guest_ip, tap }, await findGuestBridge({ tap, guest_ip })),
};
