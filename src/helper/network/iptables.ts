/**
 * What stands outside our own tables: a chain of accepts in iptables, asked first in FORWARD, since no accept of nft's comes past a
 * drop there. Docker sets one. It lets through only what carries the mark of our nft rules, and answers. Also the removal
 * of what earlier versions wrote with iptables and ebtables.
 * Source: iptables(8), iptables-extensions(8), iptables-restore(8), ebtables(8).
 */

import { parseEarlierSpoofRule } from "../../shared/host-names.ts";
import { ACCEPT_CHAIN as CHAIN, PACKET_MARKS } from "../../shared/network/walls.ts";
import { isInstalled, runTool } from "../run-tool.ts";

const TIMEOUT_MS = 30_000;
/** Others hold the lock for moments, firewalld for longer. */
const WAIT = ["-w", "10"];
const MARK = `0x${PACKET_MARKS.out.toString(16)}`;
const JUMP = `-A FORWARD -j ${CHAIN}`;

/** Rules of the tables we have, or had, rules in, as `iptables-save` prints them: `-A chain …`. */
export interface Ruleset {
  readonly filter: readonly string[];
  readonly nat: readonly string[];
  /** Whether our chain is there, even if empty. */
  readonly hasChain: boolean;
}

/** A comment with other than letters comes in quotes, which ours (without blanks) did not need. Pure. */
export const unquoteComments = (rule: string): string => rule.replaceAll(/--comment "([^" ]+)"/g, "--comment $1");

/** Pure. */
export function parseRuleset(saved: string): Ruleset {
  const tables: Record<string, string[]> = {};
  let lines: string[] = [];
  for (const line of saved.split("\n")) {
    if (line.startsWith("*")) lines = tables[line.slice(1)] ??= [];
    else if (line.startsWith("-A ")) lines.push(unquoteComments(line));
  }
  return { filter: tables["filter"] ?? [], nat: tables["nat"] ?? [], hasChain: saved.includes(`\n:${CHAIN} `) };
}

/** Lines for `iptables-restore`, by table; none when all is as it should be. */
export interface Changes {
  readonly filter: readonly string[];
  readonly nat: readonly string[];
}

/** Exactly what guests with NAT need of iptables. */
export const acceptRules = (bridge: string): readonly string[] => [
  `-A ${CHAIN} -i ${bridge} -m mark --mark ${MARK}/${MARK} -j ACCEPT`,
  `-A ${CHAIN} -o ${bridge} -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT`,
];

/** Earlier versions put a comment into each rule of a guest. */
const isOfEarlierVersion = (rule: string): boolean => / --comment banger-nat-tap-[a-z0-9.-]+ -j /.test(rule);
const remove = (rule: string): string => rule.replace(/^-A /, "-D ");
const rulesOf = (rules: readonly string[], chain: string): readonly string[] =>
  rules.filter((rule) => rule.startsWith(`-A ${chain} `));

/** From what is there to our chain, first in FORWARD, with accepts for these bridges and nothing else; to no chain without bridges. Pure. */
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
  // Naming a chain in this way makes it, or empties it.
  if (own.length !== wanted.length || wanted.some((rule, index) => rule !== own[index]))
    changes.filter.push(`:${CHAIN} - [0:0]`, ...wanted);
  if (forward[0] !== JUMP || jumps.length > 1) changes.filter.push(...jumps, `-I FORWARD 1 -j ${CHAIN}`);
  return changes;
}

const isEarlierDrop = (rule: string): boolean =>
  new RegExp(`^-A ${CHAIN} -[io] \\S+ -m comment --comment \\S+ -j DROP$`).test(rule);

/** Whether rules of an earlier version are there. Pure. */
export const hasEarlierRules = ({ filter, nat }: Ruleset): boolean =>
  [...filter, ...nat].some((rule) => isOfEarlierVersion(rule) || isEarlierDrop(rule));

/** Whether an earlier version's rules name the bridge: only root could have written them. Pure. */
export const isBridgeOfEarlierVersion = ({ filter }: Ruleset, bridge: string): boolean =>
  filter.some((rule) => isEarlierDrop(rule) && rule.includes(` -i ${bridge} `));

/** Nothing where there is no iptables: then nothing of it drops what guests send. */
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

/** Of what `ebtables -L INPUT` prints, the words of earlier versions' rules against borrowed addresses. Pure. */
export function parseSpoofRules(printed: string): readonly (readonly string[])[] {
  return printed.split("\n").flatMap((line) => {
    const words = parseEarlierSpoofRule(line);
    return words === null ? [] : [words];
  });
}

/** Earlier versions' rules of ebtables. */
export async function removeSpoofRules(): Promise<void> {
  if (!isInstalled("ebtables")) return;
  const printed = await runTool("ebtables", ["--concurrent", "-L", "INPUT"], { timeoutMs: TIMEOUT_MS });
  for (const words of parseSpoofRules(printed))
    await runTool("ebtables", ["--concurrent", "-D", ...words], { timeoutMs: TIMEOUT_MS });
}
