/**
 * The part of our firewall in iptables: a chain of accepts at the top of FORWARD, because an accept in nft doesn't
 * override a drop there, such as Docker's. The chain accepts only packets marked by our nft rules, and replies. Also
 * removes the iptables and ebtables rules of earlier versions. Source: iptables(8), iptables-extensions(8),
 * iptables-restore(8), ebtables(8).
 */

import { parseEarlierSpoofRule } from "../../shared/host-names.ts";
import { ACCEPT_CHAIN as CHAIN, PACKET_MARKS } from "../../shared/network/walls.ts";
import { isInstalled, runTool } from "../run-tool.ts";

const TIMEOUT_MS = 30_000;
/** Other programs hold the lock briefly, firewalld for longer. */
const WAIT = ["-w", "10"];
const MARK = `0x${PACKET_MARKS.out.toString(16)}`;
const JUMP = `-A FORWARD -j ${CHAIN}`;

/** The rules of the tables that hold, or once held, rules of ours, as `iptables-save` prints them: `-A chain …`. */
export interface Ruleset {
  readonly filter: readonly string[];
  readonly nat: readonly string[];
  /** Whether our chain exists, even if it is empty. */
  readonly hasChain: boolean;
}

/** Removes the quotes that `iptables-save` puts around our comments, which contain no spaces. Pure. */
export const unquoteComments = (rule: string): string => rule.replaceAll(/--comment "([^" ]+)"/g, "--comment $1");

/** Parses the output of `iptables-save`. Pure. */
export function parseRuleset(saved: string): Ruleset {
  const tables: Record<string, string[]> = {};
  let lines: string[] = [];
  for (const line of saved.split("\n")) {
    if (line.startsWith("*")) lines = tables[line.slice(1)] ??= [];
    else if (line.startsWith("-A ")) lines.push(unquoteComments(line));
  }
  return { filter: tables["filter"] ?? [], nat: tables["nat"] ?? [], hasChain: saved.includes(`\n:${CHAIN} `) };
}

/** Lines for `iptables-restore`, by table; none if nothing must change. */
export interface Changes {
  readonly filter: readonly string[];
  readonly nat: readonly string[];
}

/** All the iptables rules that guests with NAT need. */
export const acceptRules = (bridge: string): readonly string[] => [
  `-A ${CHAIN} -i ${bridge} -m mark --mark ${MARK}/${MARK} -j ACCEPT`,
  `-A ${CHAIN} -o ${bridge} -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT`,
];

/** Earlier versions marked each rule of a guest with a comment. */
const isOfEarlierVersion = (rule: string): boolean => / --comment banger-nat-tap-[a-z0-9.-]+ -j /.test(rule);
const remove = (rule: string): string => rule.replace(/^-A /, "-D ");
const rulesOf = (rules: readonly string[], chain: string): readonly string[] =>
  rules.filter((rule) => rule.startsWith(`-A ${chain} `));

/**
 * Plans the changes that put our chain first in FORWARD, with accepts for exactly these bridges. Without bridges, it
 * plans the chain's removal. Pure.
 */
export function planAccepts({ filter, nat, hasChain }: Ruleset, bridges: readonly string[]): Changes {
  const old = filter.filter((rule) => isOfEarlierVersion(rule) && !rule.startsWith(`-A ${CHAIN} `)).map(remove);
  const changes: { filter: string[]; nat: string[] } = { filter: old, nat: nat.filter(isOfEarlierVersion).map(remove) };
  const forward = rulesOf(filter, "FORWARD");
  const jumps = forward.filter((rule) => rule === JUMP).map(remove);
  if (bridges.length === 0) {
    if (hasChain) changes.filter.push(...jumps, `-F ${CHAIN}`, `-X ${CHAIN}`);
    return changes;
  }
  const wanted = bridges.flatMap(acceptRules);
  const own = rulesOf(filter, CHAIN);
  // This line creates the chain, or empties it.
  if (own.length !== wanted.length || wanted.some((rule, index) => rule !== own[index]))
    changes.filter.push(`:${CHAIN} - [0:0]`, ...wanted);
  if (forward[0] !== JUMP || jumps.length > 1) changes.filter.push(...jumps, `-I FORWARD 1 -j ${CHAIN}`);
  return changes;
}

const isEarlierDrop = (rule: string): boolean =>
  new RegExp(`^-A ${CHAIN} -[io] \\S+ -m comment --comment \\S+ -j DROP$`).test(rule);

/** Whether rules of an earlier version exist. Pure. */
export const hasEarlierRules = ({ filter, nat }: Ruleset): boolean =>
  [...filter, ...nat].some((rule) => isOfEarlierVersion(rule) || isEarlierDrop(rule));

/** Whether an earlier version's rules, which only root can write, name the bridge. Pure. */
export const isBridgeOfEarlierVersion = ({ filter }: Ruleset, bridge: string): boolean =>
  filter.some((rule) => isEarlierDrop(rule) && rule.includes(` -i ${bridge} `));

/** Reads the rules; none if iptables isn't installed, because then it drops nothing. */
export async function readRuleset(): Promise<Ruleset> {
  if (!isInstalled("iptables-save")) return { filter: [], nat: [], hasChain: false };
  return parseRuleset(await runTool("iptables-save", [], { timeoutMs: TIMEOUT_MS }));
}

export async function ensureAccepts(rules: Ruleset, bridges: readonly string[]): Promise<void> {
  if (!isInstalled("iptables-restore")) return;
  const changes = planAccepts(rules, bridges);
  if (changes.filter.length + changes.nat.length === 0) return;
  const text = Object.entries(changes)
    .filter(([, lines]) => lines.length > 0)
    .map(([table, lines]) => `*${table}\n${lines.join("\n")}\nCOMMIT\n`)
    .join("");
  await runTool("iptables-restore", ["--noflush", ...WAIT], { timeoutMs: TIMEOUT_MS, stdin: text });
}

/**
 * Finds, in the output of `ebtables -L INPUT`, the arguments of earlier versions' rules against spoofed addresses.
 * Pure.
 */
export function parseSpoofRules(printed: string): readonly (readonly string[])[] {
  return printed.split("\n").flatMap((line) => {
    const words = parseEarlierSpoofRule(line);
    return words === null ? [] : [words];
  });
}

/** Removes the ebtables rules of earlier versions. */
export async function removeSpoofRules(): Promise<void> {
  if (!isInstalled("ebtables")) return;
  const printed = await runTool("ebtables", ["--concurrent", "-L", "INPUT"], { timeoutMs: TIMEOUT_MS });
  for (const words of parseSpoofRules(printed))
    await runTool("ebtables", ["--concurrent", "-D", ...words], { timeoutMs: TIMEOUT_MS });
}
