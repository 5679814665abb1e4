/** Finds a guest's bridge from its tap, and checks tap, bridge and address. */

import { BangerError } from "../../shared/errors.ts";
import { bridgeName, enforce, guestInSubnet, realBridge, realTap, tapsGuest } from "../gates.ts";
import { listInterfaces, portsOf } from "./interfaces.ts";
import { readIpv4Address } from "../sys/interfaces.ts";

/** The gates that {@link findGuestBridge} enforces, for the documentation. */
export const GUEST_BRIDGE_FACTS = [realTap, tapsGuest, realBridge, guestInSubnet] as const;

/** @throws BangerError FAILED if the tap or bridge doesn't exist; HELPER_REFUSED by the gates */
export function findGuestBridge(guest: { readonly tap: string; readonly guest_ip: string }): string {
  const { tap, guest_ip } = guest;
  const links = listInterfaces();
  const link = links.find(({ name }) => name === tap);
  if (link === undefined) throw new BangerError("FAILED", `${tap} does not exist`);
  enforce(realTap, { link });
  const bridge = link.master ?? "";
  enforce(bridgeName, { bridge });
  const bridgeLink = links.find(({ name }) => name === bridge);
  if (bridgeLink === undefined) throw new BangerError("FAILED", `${bridge} does not exist`);
  enforce(realBridge, { link: bridgeLink, ports: portsOf(bridge, links) });
  const address = readIpv4Address(bridge);
  enforce(guestInSubnet, { guest_ip, bridge, addresses: address === null ? [] : [address] });
  enforce(tapsGuest, { link, guest_ip });
  return bridge;
}
