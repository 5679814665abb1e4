/**
 * The walls around guests. Each holds by itself:
 *  - per tap, an allow list in nft before bridge and routing: the guest's own MAC and IPv4 address, untagged, and nothing else;
 *  - ports that pass nothing to each other, learn nothing and flood nothing (`bridge-port.ts`);
 *  - a policy rule of routing that lets out only what our nft rules marked (`policy-rules.ts`);
 *  - in our own nft table: out only by NAT and the uplink, in only answers, bounds on connections, nothing new to the host.
 */

import { ACCEPT_CHAIN, parseTapAlias } from "../../shared/network/walls.ts";
import { fixPorts, isolatePort } from "./bridge-port.ts";
import type { HelperContext } from "../context.ts";
import { ensureAccepts, hasEarlierRules, readRuleset, removeSpoofRules, type Ruleset } from "./iptables.ts";
import { findUplink, type Interface, ip, listInterfaces, markedBridges, markedTaps } from "./interfaces.ts";
import {
  applyNft,
  baseRules,
  listNatGuests,
  listOwnTables,
  type NatGuest,
  noTapWall,
  tapWall,
  uplinks,
  type WalledTap,
  withNat,
  withoutNat,
} from "./nft.ts";
import { ensurePolicyRules, listPolicyRules } from "./policy-rules.ts";
import { isReservedUid } from "../jail/slots.ts";
import { applySwitches, listSwitched, planSwitches, turnAllOff } from "./switches.ts";
import { forgetNeighbour } from "../sys/interfaces.ts";
import { dropTap, ROOT_UID } from "../sys/taps.ts";

/** All walls of the bridge and of each tap on it, as they should be. `rules` are iptables' before. */
export async function ensureBridgeWalls(
  context: HelperContext,
  bridge: string,
  bridgeIp: string,
  rules: Ruleset,
): Promise<void> {
  const links = listInterfaces();
  const ports = markedTaps(links, bridge);
  await applyWalls(
    baseRules(bridge),
    ports.map((port) => ({ ...port, bridgeIp })),
  );
  for (const port of ports) isolatePort(bridge, port);
  await Promise.all([fixPorts(ports), ensurePolicyRules(bridge)]);
  if ((await listNatGuests()).length > 0) await ensureAccepts(rules, markedBridges(links));
  else await closeWayOut(context, rules);
  if (hasEarlierRules(rules)) await removeSpoofRules();
}

/** In one transaction. Chains that are there stay, unless they are of another form: taking one away costs as much as the rest. */
async function applyWalls(text: string, taps: readonly WalledTap[]): Promise<void> {
  const walls = taps.map(tapWall).join("");
  try {
    await applyNft(text + walls);
  } catch {
    await applyNft(text + taps.map(({ tap }) => noTapWall(tap)).join("") + walls);
  }
}

/** The walls of a tap that is a port of the bridge already and that only this process can use. NAT of an earlier one ends. */
export async function raiseTapWalls(tap: WalledTap, bridge: string): Promise<void> {
  isolatePort(bridge, tap);
  await Promise.all([applyWalls(withoutNat(tap.guestIp), [tap]), fixPorts([tap])]);
}

/**
 * Removes a tap with all that its walls would leave behind, its guest's NAT included. EBUSY while a VMM has it open. One that a VMM
 * gave to somebody else (whoever has a tap open may) is taken from whoever has it open now: it would never become free.
 */
export async function dropWalledTap(
  { install }: HelperContext,
  { name, master, alias, uid }: Interface,
): Promise<void> {
  const isGivenAway = uid === null || (uid !== ROOT_UID && !isReservedUid(install, uid));
  if (isGivenAway) await ip("link", "delete", "dev", name);
  else dropTap(name);
  // After the tap: as long as it stood, so did its wall.
  const guestIp = parseTapAlias(alias);
  await applyNft((guestIp === null ? "" : withoutNat(guestIp)) + noTapWall(name));
  if (guestIp !== null && master !== null) forgetNeighbour(master, guestIp);
}

/** Lets the guest out by today's uplink. Returns the uplink. @throws BangerError NETWORK without one */
export async function ensureNat(context: HelperContext, guest: NatGuest, bridge: string): Promise<string> {
  const [uplink, rules] = await Promise.all([findUplink(), readRuleset()]);
  const plan = planSwitches(context, bridge, uplink);
  await applyNft(baseRules(bridge) + withNat(guest.guestIp, guest.tap) + uplinks([uplink], plan.forwardingForGuests));
  await ensureAccepts(rules, markedBridges(listInterfaces()));
  // Last: an uplink forwards only behind our rules.
  applySwitches(context, plan);
  return uplink;
}

/** Shuts the guest in again. Nothing is changed unless it has NAT by that very tap. */
export async function removeNat(context: HelperContext, guest: NatGuest): Promise<void> {
  const guests = await listNatGuests();
  if (!guests.some(({ guestIp, tap }) => guestIp === guest.guestIp && tap === guest.tap)) return;
  await applyNft(withoutNat(guest.guestIp));
  if (guests.length > 1) return;
  await closeWayOut(context, await readRuleset());
}

/** What the host does only for guests with NAT, when there are none. */
async function closeWayOut(context: HelperContext, rules: Ruleset): Promise<void> {
  await ensureAccepts(rules, []);
  // Switches first: an uplink forwards only behind our rules.
  if (turnAllOff(context)) await applyNft(uplinks([], []));
}

/** What of the host's network is ours besides interfaces, by name. */
export async function listWalls(context: HelperContext): Promise<readonly string[]> {
  const [tables, rules, { hasChain }] = await Promise.all([listOwnTables(), listPolicyRules(), readRuleset()]);
  return [
    ...tables.map((table) => `nft table ${table}`),
    ...rules.map((preference) => `ip rule ${preference}`),
    ...(hasChain ? [`iptables chain ${ACCEPT_CHAIN}`] : []),
    ...listSwitched(context).map((key) => `sysctl net/ipv4/conf/${key}`),
  ];
}
