/**
 * Sends one real packet through the NAT path. It is written into a guest's tap, as the guest would, and counted by a
 * rule of ours just before its address is translated. If it doesn't get there, the counters of other rules tell what
 * dropped it. Callers get a verdict and names, never the text of a rule.
 */

import { readFileSync } from "node:fs";
import * as v from "valibot";
import { BangerError, isErrno } from "../../shared/errors.ts";
import { macOf } from "../../shared/network/guest-mac.ts";
import { HELPER_VERBS, type HelperOutputOf, type NatDropper } from "../../shared/contract/helper-api.ts";
import { SWITCHES_ROOT } from "../../shared/network/walls.ts";
import { findRouteOut, readInterface } from "./interfaces.ts";
import {
  applyNft,
  listNatGuests,
  listUplinks,
  type NatGuest,
  readCounted,
  startCounting,
  stopCounting,
} from "./nft.ts";
import {
  type Ending,
  findRisen,
  listEndings,
  type NftFilter,
  parseCounters,
  parseNftFilters,
} from "./packet-counters.ts";
import { encodeDatagram } from "./probe-frame.ts";
import { isInstalled, runTool } from "../run-tool.ts";
import { holdTap } from "../sys/taps.ts";

const TIMEOUT_MS = 10_000;
/** How long a port may take to forward. Without spanning tree it forwards as soon as the tap is open. */
const PORT_TIMEOUT_MS = 3000;
/** How long the packet may take through the host's tables. */
const PACKET_TIMEOUT_MS = 500;
/** Another program's packet may be dropped at the same moment, so no dropper is named before ours had time to pass. */
const BLAME_AFTER_MS = 50;
const POLL_MS = 10;
/** An address of TEST-NET-1 (RFC 5737), which nobody uses, and the discard port (RFC 863). */
const TARGET_IP = "192.0.2.1";
const DISCARD_PORT = 9;
const PORTS = { first: 49_152, count: 16_384 };

type Probe = HelperOutputOf<"priv.probe_nat">;

interface Counters {
  readonly endings: readonly Ending[];
  readonly nft: readonly NftFilter[];
}

/**
 * Sends the packet and reports its fate. The guest already has NAT (`ensure_nat`), and its tap is on the bridge.
 * @throws BangerError IN_USE if a VMM has the tap open; FAILED if the guest has no NAT or the port doesn't come up
 */
export async function sendProbe(guest: NatGuest, bridge: string): Promise<Probe> {
  using tap = take(guest.tap);
  const targetMac = await waitForPort(guest.tap, bridge);
  const [uplink] = await listUplinks();
  const hasNat = (await listNatGuests()).some((each) => each.guestIp === guest.guestIp && each.tap === guest.tap);
  if (!hasNat || uplink === undefined) throw new BangerError("FAILED", `${guest.guestIp} on ${guest.tap} has no NAT`);
  await applyNft(startCounting(guest.guestIp, uplink));
  try {
    const before = await readCounters();
    tap.send(
      encodeDatagram({
        sourceMac: macOf(guest.guestIp),
        targetMac,
        sourceIp: guest.guestIp,
        targetIp: TARGET_IP,
        // A different port each time: a known flow would pass without being translated.
        sourcePort: PORTS.first + Math.floor(Math.random() * PORTS.count),
        targetPort: DISCARD_PORT,
      }),
    );
    const sentAt = Date.now();
    for (;;) {
      const waitedMs = Date.now() - sentAt;
      // The packet got out. Its reply would come in through the uplink.
      if ((await readCounted(guest.guestIp)) > 0)
        return findOff([uplink]) ?? { forwarded: true, dropped_by: null, where: null };
      const after = await readCounters();
      const risen = findRisen(before.endings, after.endings) ?? findRisen(before.nft, after.nft);
      const isOver = waitedMs > PACKET_TIMEOUT_MS || (risen !== null && waitedMs > BLAME_AFTER_MS);
      if (isOver) return await explain({ guest, bridge, uplink, risen, after });
      await Bun.sleep(POLL_MS);
    }
  } finally {
    await applyNft(stopCounting(guest.guestIp, uplink));
  }
}

function take(tap: string): ReturnType<typeof holdTap> {
  try {
    return holdTap(tap);
  } catch (thrown) {
    if (isErrno(thrown, "EBUSY")) throw new BangerError("IN_USE", `${tap} is open`, { cause: thrown });
    throw thrown;
  }
}

/** Waits until the tap's port and the bridge forward frames. Returns the bridge's MAC address. */
async function waitForPort(tap: string, bridge: string): Promise<string> {
  const deadline = Date.now() + PORT_TIMEOUT_MS;
  for (;;) {
    const link = readInterface(bridge);
    if (readInterface(tap)?.isForwarding === true && link?.isUp === true) return link.mac;
    if (Date.now() > deadline) throw new BangerError("FAILED", `${tap} on ${bridge} did not start forwarding in time`);
    await Bun.sleep(POLL_MS);
  }
}

async function readCounters(): Promise<Counters> {
  const [saved, nft] = await Promise.all([
    isInstalled("iptables-save") ? runTool("iptables-save", ["-c"], { timeoutMs: TIMEOUT_MS }) : "",
    readNft(),
  ]);
  return { endings: listEndings(parseCounters(saved)), nft };
}

async function readNft(): Promise<readonly NftFilter[]> {
  try {
    return parseNftFilters(await runTool("nft", ["--json", "--terse", "list", "ruleset"], { timeoutMs: TIMEOUT_MS }));
  } catch {
    // The ruleset is too long or has an unknown form: no dropper is named.
    return [];
  }
}

/** Whether a text has the contract's form: names, which others may have chosen, but nothing that reads like a rule. */
const isNames = (where: string): boolean => v.is(HELPER_VERBS["priv.probe_nat"].output.entries.where, where);

const by = (dropper: NatDropper, where: string | null): Probe => ({
  forwarded: false,
  dropped_by: dropper,
  where: where !== null && isNames(where) ? where : null,
});

/**
 * Finds the first of these interfaces that doesn't forward. Each has its own switch; the host's switch only sets all of
 * them.
 */
function findOff(devices: readonly string[]): Probe | null {
  const off = devices.find((device) => readFileSync(`${SWITCHES_ROOT}/${device}/forwarding`, "utf8").trim() === "0");
  return off === undefined ? null : by("ip_forward", `net.ipv4.conf.${off}.forwarding`);
}

/** Names what dropped the packet, checking the most certain causes first. */
async function explain(facts: {
  readonly guest: NatGuest;
  readonly bridge: string;
  readonly uplink: string;
  readonly risen: Pick<Ending, "by" | "where"> | null;
  readonly after: Counters;
}): Promise<Probe> {
  const { guest, bridge, uplink, risen, after } = facts;
  const off = findOff([bridge, uplink]);
  if (off !== null) return off;
  const device = await findRouteOut(guest.guestIp, TARGET_IP, bridge);
  if (device !== null && device !== uplink) return by("route", device);
  if (risen !== null) return by(risen.by, risen.where);
  // nft filters rarely count packets. Name one known to block others' bridges; treat any other as a suspect.
  const known = after.nft.find(({ by: maker }) => maker !== "rule");
  if (known !== undefined) return by(known.by, known.where);
  return by("unknown", after.nft[0]?.where ?? (hasLegacyFilter() ? "iptables-legacy" : null));
}

/**
 * Whether rules of iptables-legacy exist as well. Reading them would need a raw socket, which the helper can't open.
 */
function hasLegacyFilter(): boolean {
  try {
    return readFileSync("/proc/net/ip_tables_names", "utf8").split("\n").includes("filter");
  } catch (thrown) {
    if (isErrno(thrown, "ENOENT")) return false;
    throw thrown;
  }
}
