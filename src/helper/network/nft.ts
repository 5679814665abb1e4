/** Our own nft tables. Each text is applied as a whole or not at all. Source: nft(8), libnftables-json(5). */

import * as v from "valibot";
import { macOf } from "../../shared/network/guest-mac.ts";
import { GUEST_BOUNDS, NFT_TABLE, PACKET_MARKS } from "../../shared/network/walls.ts";
import { runTool, tryTool } from "../run-tool.ts";

const TIMEOUT_MS = 30_000;
/** Before the bridge, routing and everyone else's rules. */
const FIRST = -500;
const { admitted, out } = PACKET_MARKS;
const both = admitted | out;
const INET = `inet ${NFT_TABLE}`;
const NETDEV = `netdev ${NFT_TABLE}`;

/** A guest's tap and address, and the gateway it may ask for by ARP. */
export interface WalledTap {
  readonly tap: string;
  readonly guestIp: string;
  readonly bridgeIp: string;
}

/**
 * The allow list of one tap: everything else is dropped before the bridge learns or the kernel routes. The first rule
 * must stand alone. Combined with another match, nft may read the wrong bytes after the kernel has removed a VLAN tag,
 * and a tagged frame would pass as untagged.
 */
export function tapWall({ tap, guestIp, bridgeIp }: WalledTap): string {
  const mac = macOf(guestIp);
  const { arpPerSecond } = GUEST_BOUNDS;
  return `
add table ${NETDEV}
add chain ${NETDEV} ${tap} { type filter hook ingress device "${tap}" priority ${FIRST}; policy drop; }
flush chain ${NETDEV} ${tap}
add rule ${NETDEV} ${tap} ether type != { arp, ip } drop
add rule ${NETDEV} ${tap} ether saddr != ${mac} drop
add rule ${NETDEV} ${tap} ether type arp arp htype 1 arp ptype ip arp hlen 6 arp plen 4 arp saddr ether ${mac} arp saddr ip ${guestIp} \\
  arp daddr ip ${bridgeIp} limit rate ${arpPerSecond}/second burst ${2 * arpPerSecond} packets accept
add rule ${NETDEV} ${tap} ether type ip ip version 4 ip hdrlength 5 ip saddr ${guestIp} meta mark set ${admitted} accept
`;
}

/** Removes the tap's chain. It may not exist: the kernel removes it together with the tap. */
export function noTapWall(tap: string): string {
  return `
add table ${NETDEV}
add chain ${NETDEV} ${tap}
flush chain ${NETDEV} ${tap}
delete chain ${NETDEV} ${tap}
`;
}

const CHAINS = [
  "guard { type filter hook prerouting priority -450; policy accept; }",
  // After restoring connection marks (-150) and translating destinations (-100), before routing.
  "choose { type filter hook prerouting priority -90; policy accept; }",
  "input { type filter hook input priority -10; policy accept; }",
  "forward { type filter hook forward priority -10; policy accept; }",
  "guest",
  "count { type filter hook postrouting priority 90; policy accept; }",
  "translate { type nat hook postrouting priority 100; policy accept; }",
] as const;

const { connections, newConnectionsPerSecond, newConnectionsAtOnce } = GUEST_BOUNDS;
/** The rules by chain, in order. */
const RULES: readonly (readonly [chain: string, rule: string])[] = [
  // Drops what no allow list admitted, and fragments from guests without NAT, which the host would have to reassemble.
  ["guard", `iifname @bridges meta mark & ${admitted} == 0 drop`],
  ["guard", "iifname @bridges ip saddr != @guests ip frag-off & 0x3fff != 0 drop"],
  ["choose", `iifname @bridges ip saddr @guests meta mark set meta mark | ${out}`],
  // Lets the source check (rp_filter) find the route back to a guest with NAT.
  ["choose", `iifname @uplinks ip daddr @guests meta mark set meta mark | ${out}`],
  // The host accepts from guests only replies to its own connections. A redirect is not a reply.
  ["input", "iifname @bridges ct state established accept"],
  [
    "input",
    "iifname @bridges ct state related icmp type { destination-unreachable, time-exceeded, parameter-problem } accept",
  ],
  ["input", "iifname @bridges drop"],
  ["forward", "iifname @bridges goto guest"],
  ["forward", "oifname @bridges ip daddr @guests iifname @uplinks ct state established,related accept"],
  ["forward", "oifname @bridges drop"],
  // If an uplink forwards only for guests, other new connections are dropped unless a DNAT rule redirects them.
  ["forward", "iifname @switched ct state established,related accept"],
  ["forward", "iifname @switched ct status dnat accept"],
  ["forward", "iifname @switched drop"],
  ["guest", "ip saddr != @guests drop"],
  ["guest", "oifname != @uplinks drop"],
  ["guest", "ct state established,related accept"],
  ["guest", "ct state != new drop"],
  [
    "guest",
    `update @rates { ip saddr limit rate over ${newConnectionsPerSecond}/second burst ${newConnectionsAtOnce} packets } drop`,
  ],
  ["guest", `add @connections { ip saddr ct count over ${connections} } drop`],
  ["guest", "accept"],
  ["count", "ip saddr . oifname @probed"],
  ["count", `meta mark & ${both} != 0 meta mark set meta mark & ${~both >>> 0}`],
  ["translate", "ip saddr @guests oifname @uplinks masquerade"],
];

/** Existing sets keep their elements. */
const SETS = `
table ${INET} {
  set bridges { type ifname; }
  set uplinks { type ifname; }
  set switched { type ifname; }
  set guests { type ipv4_addr; }
  set connections { type ipv4_addr; size 65535; flags dynamic; }
  set rates { type ipv4_addr; size 65535; flags dynamic, timeout; timeout 1m; }
  set probed { type ipv4_addr . ifname; counter; }
}
`;

/** The rules for all guests of the bridge. */
export function baseRules(bridge: string): string {
  return `${SETS}
${CHAINS.map((chain) => `add chain ${INET} ${chain}`).join("\n")}
flush table ${INET}
${RULES.map(([chain, rule]) => `add rule ${INET} ${chain} ${rule}`).join("\n")}
add element ${INET} bridges { "${bridge}" }
`;
}

/** Removes the guest's NAT, even if it has none. */
export const withoutNat = (guestIp: string): string => `${SETS}
add element ${INET} guests { ${guestIp} }
delete element ${INET} guests { ${guestIp} }
`;

/** Adds the guest's NAT. The element's comment is the tap's name. */
export const withNat = (guestIp: string, tap: string): string =>
  `${withoutNat(guestIp)}add element ${INET} guests { ${guestIp} comment "${tap}" }\n`;

/** Sets the devices through which guests with NAT leave, and which of them forward only for guests. */
export function uplinks(all: readonly string[], switched: readonly string[]): string {
  const fill = (set: string, names: readonly string[]): string =>
    `flush set ${INET} ${set}\n${names.map((name) => `add element ${INET} ${set} { "${name}" }\n`).join("")}`;
  return SETS + fill("uplinks", all) + fill("switched", switched);
}

const probed = (guestIp: string, uplink: string): string => `${INET} probed { ${guestIp} . "${uplink}" }`;
/** Starts counting, from zero, the guest's packets that are about to leave through the uplink. */
export const startCounting = (guestIp: string, uplink: string): string =>
  `${stopCounting(guestIp, uplink)}add element ${probed(guestIp, uplink)}\n`;
export const stopCounting = (guestIp: string, uplink: string): string =>
  `add element ${probed(guestIp, uplink)}\ndelete element ${probed(guestIp, uplink)}\n`;

/** Applies all of a text, or nothing if nft rejects a line. */
export async function applyNft(text: string): Promise<void> {
  await runTool("nft", ["-f", "-"], { timeoutMs: TIMEOUT_MS, stdin: text });
}

const Value = v.union([v.string(), v.object({ concat: v.array(v.string()) })]);
const Element = v.object({
  val: Value,
  comment: v.optional(v.string()),
  counter: v.optional(v.object({ packets: v.number() })),
});
const SetListing = v.object({
  nftables: v.array(
    v.object({
      set: v.optional(
        v.object({
          elem: v.optional(
            v.array(
              v.union([
                v.pipe(
                  v.object({ elem: Element }),
                  v.transform(({ elem }) => elem),
                ),
                v.pipe(
                  Value,
                  v.transform((val) => ({ val }) as v.InferOutput<typeof Element>),
                ),
              ]),
            ),
          ),
        }),
      ),
    }),
  ),
});

/** Lists a set's elements; none if there is no such set. */
async function listSet(name: string): Promise<readonly v.InferOutput<typeof Element>[]> {
  const { exitCode, stdout } = await tryTool("nft", ["--json", "list", "set", "inet", NFT_TABLE, name], {
    timeoutMs: TIMEOUT_MS,
  });
  if (exitCode !== 0) return [];
  const { nftables } = v.parse(SetListing, JSON.parse(new TextDecoder().decode(stdout)));
  return nftables.flatMap(({ set }) => set?.elem ?? []);
}

export interface NatGuest {
  readonly guestIp: string;
  readonly tap: string;
}

/** Lists the guests with NAT. */
export async function listNatGuests(): Promise<readonly NatGuest[]> {
  return (await listSet("guests")).flatMap(({ val, comment }) =>
    typeof val === "string" ? [{ guestIp: val, tap: comment ?? "" }] : [],
  );
}

/** Lists the devices through which guests with NAT leave. */
export async function listUplinks(): Promise<readonly string[]> {
  return (await listSet("uplinks")).flatMap(({ val }) => (typeof val === "string" ? [val] : []));
}

/** Reads the number of packets counted since {@link startCounting}. */
export async function readCounted(guestIp: string): Promise<number> {
  return (await listSet("probed")).reduce(
    (sum, { val, counter }) =>
      sum + (typeof val !== "string" && val.concat[0] === guestIp ? (counter?.packets ?? 0) : 0),
    0,
  );
}

/** Lists our tables, with their families. */
export async function listOwnTables(): Promise<readonly string[]> {
  const text = await runTool("nft", ["list", "tables"], { timeoutMs: TIMEOUT_MS });
  return [INET, NETDEV].filter((table) => text.split("\n").includes(`table ${table}`));
}
