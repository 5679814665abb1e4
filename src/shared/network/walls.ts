/** Names, marks and limits of the walls around guests. The helper builds the walls; uninstall removes them. */

import { dirname, join } from "node:path";
import type { SystemPaths } from "../places/paths.ts";

/** The name of banger's two nft tables, of the families netdev and inet, which hold all of its nft rules. */
export const NFT_TABLE = "banger";
/**
 * The only firewall rules outside our own tables: a chain of accepts in iptables' table `filter`, for hosts whose
 * FORWARD drops packets, as Docker's does.
 */
export const ACCEPT_CHAIN = "BANGER-FORWARD";

/** Bits of a packet's mark: `admitted` is set by a tap's allow list, `out` if the packet's guest has NAT. */
export const PACKET_MARKS = { admitted: 0x0100_0000, out: 0x0200_0000 } as const;

/**
 * Preferences of the ip-rule(8) policy rules, which stay when a firewall is flushed. Packets from the bridge need the
 * mark `out` to skip `shut` and reach `next`, where the host's own rules continue.
 */
export const RULE_PREFERENCES = { out: 4201, shut: 4202, next: 4203 } as const;

/** Limits on the host kernel's resources that one guest may use. */
export const GUEST_BOUNDS = {
  /** ARP requests per second. A burst may be twice as large. */
  arpPerSecond: 20,
  /** Concurrent connections of a guest with NAT, which are entries in the host's connection table. */
  connections: 4096,
  newConnectionsPerSecond: 256,
  newConnectionsAtOnce: 1024,
} as const;

/** The most interfaces of each kind. Each costs kernel memory and rules that every packet is checked against. */
export const INTERFACE_BOUNDS = { bridge: 4, tap: 1024 } as const;

/** The alias of a bridge that banger made. Only root can set one. */
export const BRIDGE_ALIAS = "banger bridge";
const TAP_ALIAS = "banger guest ";
/** The alias of a guest's tap: marks it as banger's and names the address it was made for. */
export const tapAlias = (guestIp: string): string => `${TAP_ALIAS}${guestIp}`;

/** What banger made an interface as, which its alias says. */
export interface Mark {
  readonly kind: "bridge" | "tap";
  /** The address a tap was made for; null for a bridge. */
  readonly guestIp: string | null;
}

/** Reads banger's mark from an interface's alias; null if banger did not make the interface. A name proves nothing. */
export function readMark(alias: string): Mark | null {
  if (alias === BRIDGE_ALIAS) return { kind: "bridge", guestIp: null };
  const guestIp = alias.startsWith(TAP_ALIAS) ? alias.slice(TAP_ALIAS.length) : "";
  return /^\d{1,3}(?:\.\d{1,3}){3}$/.test(guestIp) ? { kind: "tap", guestIp } : null;
}

/**
 * The file, root's, that lists the kernel switches banger turned on, one `INTERFACE/KEY` a line. It is lost at boot, as
 * the switches are.
 */
export const switchesFile = ({ helperSocket }: Pick<SystemPaths, "helperSocket">): string =>
  join(dirname(helperSocket), "switches");
export const SWITCHES_ROOT = "/proc/sys/net/ipv4/conf";
/** Switches of an interface: forward packets that arrive on it; use packet marks when checking source addresses. */
export const SWITCHES = ["forwarding", "src_valid_mark"] as const;
