/**
 * Adopts a bridge and taps made by an earlier version, which did not mark them: running VMs keep their network across
 * an update.
 */

import { isErrno } from "../../shared/errors.ts";
import { BRIDGE_ALIAS, tapAlias } from "../../shared/network/walls.ts";
import type { HelperContext } from "../context.ts";
import { isTapName, numberOfPoolTap } from "../../shared/host-names.ts";
import { formatIpv4, parseSubnet } from "../../shared/network/ipv4.ts";
import { isBridgeOfEarlierVersion, type Ruleset } from "./iptables.ts";
import { ip, listAddresses, listInterfaces, portsOf, readInterface } from "./interfaces.ts";
import { isReservedUid } from "../jail/slots.ts";
import { dropTap, ROOT_UID, setAlias } from "../sys/taps.ts";

/**
 * Marks the bridge if it is provably banger's: an earlier version's rules, which only root can write, name it, or it is
 * new and unused. Its taps are named after their guests' addresses and belong to root or to a VM's uid.
 */
export async function adoptEarlierBridge(
  { install }: Pick<HelperContext, "install">,
  bridge: string,
  subnetText: string,
  rules: Ruleset,
): Promise<void> {
  const link = readInterface(bridge);
  if (link?.kind !== "bridge" || link.alias !== "") return;
  const links = listInterfaces();
  const ports = portsOf(bridge, links);
  const isUntouched = ports.length === 0 && !link.isUp && (await listAddresses(bridge)).length === 0;
  if (!isUntouched && !isBridgeOfEarlierVersion(rules, bridge)) return;
  if (!ports.every(isTapName)) return;
  const subnet = parseSubnet(subnetText);
  for (const { name, master, uid, tunType, alias } of links) {
    if (master !== bridge || tunType !== "tap" || alias !== "") continue;
    const number = numberOfPoolTap(name);
    const isOwn = uid === ROOT_UID || (uid !== null && isReservedUid(install, uid));
    const address = subnet === null || number === null ? null : subnet.first + number;
    if (subnet !== null && address !== null && isOwn && address > subnet.first && address < subnet.last) {
      setAlias(name, tapAlias(formatIpv4(address)));
    } else {
      // Made by `doctor` and used by no guest. The address it was made for is unknown.
      try {
        dropTap(name);
      } catch (thrown) {
        if (!isErrno(thrown, "EBUSY")) throw thrown;
      }
    }
  }
  // Guests have cached the bridge's current MAC address, so the bridge must keep it.
  await ip("link", "set", "dev", bridge, "address", link.mac);
  setAlias(bridge, BRIDGE_ALIAS);
}
