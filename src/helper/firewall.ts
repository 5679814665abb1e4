/**
 * The rules of guests with NAT, by iptables. A chain of our own is asked first of all in FORWARD: an accept there comes before Docker's,
 * ufw's and firewalld's drops, and what no rule accepts is dropped, so a guest without NAT reaches the host only.
 * Source: iptables(8), iptables-extensions(8).
 */

import { readFileSync, writeFileSync } from "node:fs";
import { findUplink } from "./network.ts";
import { isInstalled, runTool, tryTool } from "./run-tool.ts";

const TIMEOUT_MS = 15_000;
const CHAIN = "BANGER-FORWARD";
/** Others hold the lock for moments, firewalld for longer. */
const WAIT = ["-w", "10"];
const IP_FORWARD = "/proc/sys/net/ipv4/ip_forward";

async function iptables(args: readonly string[]): Promise<string> {
  return await runTool("iptables", [...WAIT, ...args], { timeoutMs: TIMEOUT_MS });
}

/** Rules of a chain as `iptables -S` prints them; empty when there is no such chain. */
async function listRules(table: string, chain: string): Promise<readonly string[]> {
  const result = await tryTool("iptables", [...WAIT, "-t", table, "-S", chain], { timeoutMs: TIMEOUT_MS });
  if (result.exitCode !== 0) return [];
  return new TextDecoder()
    .decode(result.stdout)
    .split("\n")
    .filter((line) => line.startsWith("-A "));
}

/** A printed rule as an argument vector without its `-A chain`. Ours hold no blanks inside quotes. Pure. */
export function parseRule(line: string): readonly string[] {
  return line
    .split(" ")
    .slice(2)
    .map((word) => word.replace(/^"(.*)"$/, "$1"));
}

/** What a bridge needs: our chain first in FORWARD, and in it a drop of all that no guest's own rule accepts. */
export async function ensureBridgeRules(bridge: string): Promise<void> {
  const exists = await tryTool("iptables", [...WAIT, "-S", CHAIN], { timeoutMs: TIMEOUT_MS });
  if (exists.exitCode !== 0) await iptables(["-N", CHAIN]);
  const jump = `-A FORWARD -j ${CHAIN}`;
  const forward = await listRules("filter", "FORWARD");
  if (forward[0] !== jump) {
    await iptables(["-I", "FORWARD", "1", "-j", CHAIN]);
    // By number and from the end: the new one, first now, reads the same as the older ones. iptables counts from 1.
    const older = forward.flatMap((line, index) => (line === jump ? [index + 2] : []));
    for (const number of older.toReversed()) await iptables(["-D", "FORWARD", String(number)]);
  }
  for (const direction of ["-i", "-o"]) {
    const rule = [direction, bridge, "-m", "comment", "--comment", bridge, "-j", "DROP"];
    const there = await tryTool("iptables", [...WAIT, "-C", CHAIN, ...rule], { timeoutMs: TIMEOUT_MS });
    if (there.exitCode !== 0) await iptables(["-A", CHAIN, ...rule]);
  }
}

export interface NatGuest {
  readonly guestIp: string;
  readonly tap: string;
}

/** The word in every rule of a guest, by which it is found again whatever the uplink was. */
const commentOf = ({ guestIp, tap }: NatGuest): string => `banger-nat-${tap}-${guestIp}`;

interface Rule {
  readonly table: "nat" | "filter";
  readonly chain: string;
  readonly words: readonly string[];
}

/** One masquerade for the guest's own address, and two accepts: out, and answers back. Pure. */
export function natRules(guest: NatGuest, bridge: string, uplink: string): readonly Rule[] {
  const comment = ["-m", "comment", "--comment", commentOf(guest)];
  const address = `${guest.guestIp}/32`;
  return [
    { table: "nat", chain: "POSTROUTING", words: ["-s", address, "-o", uplink, ...comment, "-j", "MASQUERADE"] },
    {
      table: "filter",
      chain: CHAIN,
      words: [
        ...["-d", address, "-i", uplink, "-o", bridge, "-m", "conntrack", "--ctstate", "RELATED,ESTABLISHED"],
        ...comment,
        ...["-j", "ACCEPT"],
      ],
    },
    { table: "filter", chain: CHAIN, words: ["-s", address, "-i", bridge, "-o", uplink, ...comment, "-j", "ACCEPT"] },
  ];
}

const NAT_CHAINS = [
  { table: "nat", chain: "POSTROUTING" },
  { table: "filter", chain: CHAIN },
] as const;

/** Every rule of every guest with NAT, as printed. */
export async function listNatRules(): Promise<readonly string[]> {
  if (!isInstalled("iptables")) return [];
  const all = await Promise.all(NAT_CHAINS.map(async ({ table, chain }) => await listRules(table, chain)));
  return all.flat().filter((line) => line.includes("banger-nat-"));
}

/** Removes the guest's rules, whichever uplink they name. */
export async function removeNat(guest: NatGuest): Promise<void> {
  const comment = commentOf(guest);
  for (const { table, chain } of NAT_CHAINS) {
    for (const line of await listRules(table, chain)) {
      const words = parseRule(line);
      if (words.includes(comment)) await iptables(["-t", table, "-D", chain, ...words]);
    }
  }
}

/** Puts the guest's rules in place for today's uplink, each once. Returns the uplink. */
export async function ensureNat(guest: NatGuest, bridge: string): Promise<string> {
  const uplink = await findUplink();
  await ensureBridgeRules(bridge);
  const wanted = natRules(guest, bridge, uplink);
  const there = await Promise.all(
    wanted.map(async ({ table, chain, words }) => {
      const found = await tryTool("iptables", [...WAIT, "-t", table, "-C", chain, ...words], { timeoutMs: TIMEOUT_MS });
      return found.exitCode === 0;
    }),
  );
  if (!there.every(Boolean)) {
    await removeNat(guest);
    for (const { table, chain, words } of wanted) await iptables(["-t", table, "-I", chain, "1", ...words]);
  }
  if (readFileSync(IP_FORWARD, "utf8").trim() !== "1") writeFileSync(IP_FORWARD, "1");
  return uplink;
}
