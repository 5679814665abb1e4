import { BangerError } from "../../shared/errors.ts";
import { ensureBridgeRules } from "../firewall.ts";
import { bridgeAddress, bridgeName, enforce, realBridge, subnetFree } from "../gates.ts";
import { disableIpv6, ip, listAddresses, listPorts, listRoutes, readInterface } from "../network.ts";
import { networkLock, type Verb } from "../verb.ts";

export const ensureBridge: Verb<"priv.ensure_bridge"> = {
  gates: [bridgeName, bridgeAddress],
  facts: [realBridge, subnetFree],
  lock: networkLock,
  run: async ({ bridge, ip: address, prefix }) => {
    enforce(subnetFree, { ip: address, prefix, bridge, routes: await listRoutes() });
    if (readInterface(bridge) === null) await ip("link", "add", "name", bridge, "type", "bridge");
    const link = readInterface(bridge);
    if (link === null) throw new BangerError("FAILED", `${bridge} vanished`);
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
    await ip("link", "set", "dev", bridge, "up");
    await ensureBridgeRules(bridge);
    return {};
  },
};
