/**
 * The walls around guests. Each works on its own:
 *  - an nft allow list per tap, before the bridge and routing: only untagged frames with the guest's own MAC and IPv4
 *    address pass;
 *  - isolated ports that learn nothing and flood nothing (`bridge-port.ts`);
 *  - a routing policy rule that lets out only packets marked by our nft rules (`policy-rules.ts`);
 *  - our own nft table: packets leave only through NAT and the uplink, only replies come in, connections are limited,
 *    and guests can't open connections to the host.
 */

import { ACCEPT_CHAIN, readMark } from "../../shared/network/walls.ts";
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

/** Puts all walls of the bridge and its taps in place. `rules` are the iptables rules found before. */
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

/**
 * Applies all walls in one transaction. Existing chains stay unless their form differs, because removing one costs as
 * much as applying all the rest.
 */
async function applyWalls(text: string, taps: readonly WalledTap[]): Promise<void> {
  const walls = taps.map(tapWall).join("");
  try {
    await applyNft(text + walls);
  } catch {
    await applyNft(text + taps.map(({ tap }) => noTapWall(tap)).join("") + walls);
  }
}

/**
 * Raises the walls of a tap that is already a bridge port and that only this process can use. Ends NAT left by an
 * earlier tap.
 */
export async function raiseTapWalls(tap: WalledTap, bridge: string): Promise<void> {
  isolatePort(bridge, tap);
  await Promise.all([applyWalls(withoutNat(tap.guestIp), [tap]), fixPorts([tap])]);
}

/**
 * Removes a tap with its walls and its guest's NAT. Fails with EBUSY while a VMM has it open. A VMM can give away a tap
 * that it has open; such a tap is deleted even while open, because it might never be closed.
 */
export async function dropWalledTap(
  { install }: HelperContext,
  { name, master, alias, uid }: Interface,
): Promise<void> {
  const isGivenAway = uid === null || (uid !== ROOT_UID && !isReservedUid(install, uid));
  if (isGivenAway) await ip("link", "delete", "dev", name);
  else dropTap(name);
  // After the tap: its wall must stay as long as the tap exists.
  const guestIp = readMark(alias)?.guestIp ?? null;
  await applyNft((guestIp === null ? "" : withoutNat(guestIp)) + noTapWall(name));
  if (guestIp !== null && master !== null) forgetNeighbour(master, guestIp);
}

/** Lets the guest out through the current uplink, which it returns. @throws BangerError NETWORK without one */
export async function ensureNat(context: HelperContext, guest: NatGuest, bridge: string): Promise<string> {
  const [uplink, rules] = await Promise.all([findUplink(), readRuleset()]);
  const plan = planSwitches(context, bridge, uplink);
  await applyNft(baseRules(bridge) + withNat(guest.guestIp, guest.tap) + uplinks([uplink], plan.forwardingForGuests));
  await ensureAccepts(rules, markedBridges(listInterfaces()));
  // Last: an uplink may forward only once our rules are in place.
  applySwitches(context, plan);
  return uplink;
}

/** Removes the guest's NAT. Changes nothing unless the guest has NAT through this very tap. */
export async function removeNat(context: HelperContext, guest: NatGuest): Promise<void> {
  const guests = await listNatGuests();
  if (!guests.some(({ guestIp, tap }) => guestIp === guest.guestIp && tap === guest.tap)) return;
  await applyNft(withoutNat(guest.guestIp));
  if (guests.length > 1) return;
  await closeWayOut(context, await readRuleset());
}

/** Undoes what the host does only for guests with NAT, once there are none. */
async function closeWayOut(context: HelperContext, rules: Ruleset): Promise<void> {
  await ensureAccepts(rules, []);
  // Switches first: an uplink may forward only while our rules are in place.
  if (turnAllOff(context)) await applyNft(uplinks([], []));
}

/** Lists, by name, everything of ours in the host's network except interfaces. */
export async function listWalls(context: HelperContext): Promise<readonly string[]> {
  const [tables, rules, { hasChain }] = await Promise.all([listOwnTables(), listPolicyRules(), readRuleset()]);
  return [
    ...tables.map((table) => `nft table ${table}`),
    ...rules.map((preference) => `ip rule ${preference}`),
    ...(hasChain ? [`iptables chain ${ACCEPT_CHAIN}`] : []),
    ...listSwitched(context).map((key) => `sysctl net/ipv4/conf/${key}`),
  ];
}
