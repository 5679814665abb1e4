import { BangerError } from "../../shared/errors.ts";
import { macOf } from "../../shared/network/guest-mac.ts";
import { BRIDGE_ALIAS } from "../../shared/network/walls.ts";
import { adoptEarlierBridge } from "../network/adopt-bridge.ts";
import { stopSnooping } from "../network/bridge-port.ts";
import { ensureBridgeWalls } from "../network/firewall.ts";
import { bridgeAddress, bridgeName, enforce, realBridge, roomForInterface, subnetFree } from "../gates.ts";
import { readRuleset } from "../network/iptables.ts";
import {
  disableIpv6,
  ip,
  listAddresses,
  listInterfaces,
  listPorts,
  listRoutes,
  markedBridges,
  readInterface,
} from "../network/interfaces.ts";
import { setAlias } from "../sys/taps.ts";
import { networkLock, type Verb } from "../verb.ts";

export const ensureBridge: Verb<"priv.ensure_bridge"> = {
  gates: [bridgeName, bridgeAddress],
  facts: [realBridge, subnetFree, roomForInterface],
  lock: networkLock,
  run: async ({ bridge, ip: address, prefix }, context) => {
    const [routes, rules] = await Promise.all([listRoutes(), readRuleset()]);
    enforce(subnetFree, { ip: address, prefix, bridge, routes });
    const links = listInterfaces();
    if (!links.some(({ name }) => name === bridge)) {
      enforce(roomForInterface, { kind: "bridge", there: markedBridges(links).length });
      // Gives the bridge its own MAC address: otherwise it uses one of its ports', which changes as ports come and go.
      await ip("link", "add", "name", bridge, "address", macOf(address), "type", "bridge");
      setAlias(bridge, BRIDGE_ALIAS);
    }
    await adoptEarlierBridge(context, bridge, `${address}/${prefix}`, rules);
    const link = readInterface(bridge);
    if (link === null) throw new BangerError("FAILED", `${bridge} disappeared while it was being set up`);
    const ports = listPorts(bridge);
    enforce(realBridge, { link, ports });
    const wanted = `${address}/${prefix}`;
    const addresses = await listAddresses(bridge);
    if (addresses.length !== 1 || addresses[0] !== wanted) {
      if (addresses.length > 0 && ports.length > 0) {
        throw new BangerError("IN_USE", `${bridge} has ${addresses.join(", ")} and is in use`);
      }
      await ip("address", "flush", "dev", bridge);
      await ip("address", "add", wanted, "dev", bridge);
    }
    disableIpv6(bridge);
    stopSnooping(bridge);
    // Before its walls, which add neighbours to it. Existing ports have their walls already, and without ports nothing
    // comes in.
    if (!link.isUp) await ip("link", "set", "dev", bridge, "up");
    await ensureBridgeWalls(context, bridge, address, rules);
    return {};
  },
};
