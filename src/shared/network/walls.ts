/** Names, marks and bounds of what keeps guests in, for the helper that builds it and for uninstall, which takes it away. */

import { dirname, join } from "node:path";
import type { SystemPaths } from "../places/paths.ts";

/** Of the families netdev and inet: all of banger's nft rules are in these two tables. */
export const NFT_TABLE = "banger";
/** The only thing outside our own tables, of iptables' table `filter`: accepts, for hosts whose FORWARD drops (Docker's does). */
export const ACCEPT_CHAIN = "BANGER-FORWARD";

/** Bits of a packet's mark. The first says that a tap's allow list let it in, the second that its guest has NAT. */
export const PACKET_MARKS = { admitted: 0x0100_0000, out: 0x0200_0000 } as const;

/**
 * Preferences of the policy rules of ip-rule(8), which stand whatever is flushed: what comes from the bridge goes past `shut` to
 * `next`, where the host's own rules go on, only with the mark `out`.
 */
export const RULE_PREFERENCES = { out: 4201, shut: 4202, next: 4203 } as const;

/** Bounds on what one guest can take of the host's kernel. */
export const GUEST_BOUNDS = {
  /** ARP requests a second, and as many at once as twice that. */
  arpPerSecond: 20,
  /** Connections of a guest with NAT at a time: entries in the host's table of connections. */
  connections: 4096,
  newConnectionsPerSecond: 256,
  newConnectionsAtOnce: 1024,
} as const;

/** How many of them banger makes: each costs the kernel memory, and packets a look at its rules. */
export const INTERFACE_BOUNDS = { bridge: 4, tap: 1024 } as const;

/** The alias of a bridge that banger made. Only root can set one. */
export const BRIDGE_ALIAS = "banger bridge";
const TAP_ALIAS = "banger guest ";
/** The alias of a guest's tap: that it is banger's, and which address it was made for. */
export const tapAlias = (guestIp: string): string => `${TAP_ALIAS}${guestIp}`;
/** The address a tap was made for; null when the alias isn't banger's. */
export function parseTapAlias(alias: string): string | null {
  const address = alias.startsWith(TAP_ALIAS) ? alias.slice(TAP_ALIAS.length) : "";
  return /^\d{1,3}(?:\.\d{1,3}){3}$/.test(address) ? address : null;
}

/** Which switches of the kernel banger turned on, one `INTERFACE/KEY` a line; root's. Gone after a boot, as they are. */
export const switchesFile = ({ helperSocket }: Pick<SystemPaths, "helperSocket">): string =>
  join(dirname(helperSocket), "switches");
export const SWITCHES_ROOT = "/proc/sys/net/ipv4/conf";
/** Of an interface: passes on what comes in by it; looks at marks when it checks where a packet comes from. */
export const SWITCHES = ["forwarding", "src_valid_mark"] as const;
