import { BangerError, isErrno } from "../../shared/errors.ts";
import { tapAlias } from "../../shared/network/walls.ts";
import { dropWalledTap, raiseTapWalls } from "../network/firewall.ts";
import {
  bridgeName,
  enforce,
  guestAddress,
  guestInSubnet,
  realBridge,
  realTap,
  roomForInterface,
  tapName,
} from "../gates.ts";
import { disableIpv6, listInterfaces, markedBridges, markedTaps, portsOf } from "../network/interfaces.ts";
import { readIpv4Address } from "../sys/interfaces.ts";
import { makeTap, plugTap } from "../sys/taps.ts";
import { networkLock, type Verb } from "../verb.ts";

export const createTap: Verb<"priv.create_tap"> = {
  gates: [tapName, bridgeName, guestAddress],
  facts: [realBridge, realTap, guestInSubnet, roomForInterface],
  byDesign: {
    rule: "root owns the tap until a launch gives it to that VM's uid, and its walls are up before",
    stops: "the owner or another local user opening a tap and sending as a guest; a guest sending as another guest",
  },
  lock: networkLock,
  run: async ({ tap, bridge, guest_ip: guestIp }, context) => {
    const links = listInterfaces();
    const link = links.find(({ name }) => name === bridge);
    if (link === undefined) throw new BangerError("FAILED", `${bridge} does not exist`);
    enforce(realBridge, { link, ports: portsOf(bridge, links) });
    const address = readIpv4Address(bridge);
    enforce(guestInSubnet, { guest_ip: guestIp, bridge, addresses: address === null ? [] : [address] });
    const before = links.find(({ name }) => name === tap);
    if (before !== undefined) enforce(realTap, { link: before });
    const others = markedBridges(links)
      .flatMap((name) => markedTaps(links, name))
      .filter((each) => each.tap !== tap);
    enforce(roomForInterface, { kind: "tap", there: others.length });
    const other = others.find((each) => each.guestIp === guestIp);
    if (other !== undefined) throw new BangerError("IN_USE", `${guestIp} is the address of ${other.tap}`);
    const [bridgeIp = ""] = (address ?? "").split("/");
    try {
      // Removes an existing tap of that name, with its settings and its bridge port.
      if (before !== undefined) await dropWalledTap(context, before);
      await makeTap(tap, tapAlias(guestIp), async () => {
        disableIpv6(tap);
        plugTap(tap, bridge);
        await raiseTapWalls({ tap, guestIp, bridgeIp }, bridge);
      });
    } catch (thrown) {
      if (isErrno(thrown, "EBUSY")) throw new BangerError("IN_USE", `${tap} is open`, { cause: thrown });
      throw thrown;
    }
    return {};
  },
};
