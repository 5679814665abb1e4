import { BangerError } from "../../shared/errors.ts";
import { ensureNat as addRules, removeNat } from "../firewall.ts";
import { bridgeName, enforce, guestAddress, guestInSubnet, realBridge, realTap, tapName } from "../gates.ts";
import { listAddresses, listPorts, readInterface } from "../network.ts";
import { networkLock, type Verb } from "../verb.ts";

export const ensureNat: Verb<"priv.ensure_nat"> = {
  gates: [guestAddress, tapName],
  facts: [realTap, realBridge, guestInSubnet],
  byDesign: {
    rule: "what claims the guest's address and comes from another tap is dropped on the bridge",
    stops: "a guest without NAT that borrows the address of one that has it",
  },
  lock: networkLock,
  run: async ({ guest_ip, tap, enable }) => {
    const guest = { guestIp: guest_ip, tap };
    if (!enable) {
      // By the comment, which holds both values: rules of others, and of other guests, are not touched.
      await removeNat(guest);
      return { uplink: null };
    }
    const link = await readInterface(tap);
    if (link === null) throw new BangerError("FAILED", `there is no ${tap}`);
    enforce(realTap, { link });
    const bridge = link.master ?? "";
    enforce(bridgeName, { bridge });
    const bridgeLink = await readInterface(bridge);
    if (bridgeLink === null) throw new BangerError("FAILED", `there is no ${bridge}`);
    enforce(realBridge, { link: bridgeLink, ports: await listPorts(bridge) });
    enforce(guestInSubnet, { guest_ip, bridge, addresses: await listAddresses(bridge) });
    return { uplink: await addRules(guest, bridge) };
  },
};
