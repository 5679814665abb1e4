/**
 * The rules of guests with NAT. A chain of our own is asked first of all in FORWARD: an accept there comes before Docker's,
 * ufw's and firewalld's drops, and what no rule accepts is dropped, so a guest without NAT reaches the host only. Rules
 * are read by one `iptables-save` and changed by one `iptables-restore`, all of them or none.
 * Source: iptables(8), iptables-extensions(8), iptables-restore(8), ebtables(8).
 */

import { readFileSync, writeFileSync } from "node:fs";
import { findUplink } from "./network.ts";
import { isInstalled, runTool } from "./run-tool.ts";

const TIMEOUT_MS = 30_000;
/** Our own chain of the filter table. */
export const CHAIN = "BANGER-FORWARD";
/** Others hold the lock for moments, firewalld for longer. */
const WAIT = ["-w", "10"];
const IP_FORWARD = "/proc/sys/net/ipv4/ip_forward";
const JUMP = `-A FORWARD -j ${CHAIN}`;

/** Rules of the tables we have rules in, as `iptables-save` prints them: `-A chain …`. */
export interface Ruleset {
  readonly filter: readonly string[];
  readonly nat: readonly string[];
  /** Whether our chain is there, even if empty. */
  readonly hasChain: boolean;
}

/** A comment with other than letters comes in quotes, which ours (without blanks) do not need. Pure. */
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

const isNothing = ({ filter, nat }: Changes): boolean => filter.length + nat.length === 0;
const rulesOf = (rules: readonly string[], chain: string): readonly string[] =>
  rules.filter((rule) => rule.startsWith(`-A ${chain} `));

/** What a bridge needs: our chain first in FORWARD, and last in it a drop of all that no guest's own rule accepts. Pure. */
export function planBridge({ filter, hasChain }: Ruleset, bridge: string): Changes {
  const changes: string[] = [];
  // Naming a chain that is there would empty it.
  if (!hasChain) changes.push(`:${CHAIN} - [0:0]`);
  const forward = rulesOf(filter, "FORWARD");
  if (forward[0] !== JUMP) {
    for (const rule of forward) if (rule === JUMP) changes.push(`-D FORWARD -j ${CHAIN}`);
    changes.push(`-I FORWARD 1 -j ${CHAIN}`);
  }
  for (const direction of ["-i", "-o"]) {
    const rule = `-A ${CHAIN} ${direction} ${bridge} -m comment --comment ${bridge} -j DROP`;
    if (!filter.includes(rule)) changes.push(rule);
  }
  return { filter: changes, nat: [] };
}

export interface NatGuest {
  readonly guestIp: string;
  readonly tap: string;
}

/** The word in every rule of a guest, by which it is found again whatever the uplink was. */
const commentOf = ({ guestIp, tap }: NatGuest): string => `banger-nat-${tap}-${guestIp}`;
/** Whether a rule, as printed, is one of the guest's. Pure. */
export const isRuleOf = (guest: NatGuest, rule: string): boolean => rule.split(" ").includes(commentOf(guest));

/** One masquerade for the guest's own address, and two accepts: out, and answers back; as `iptables-save` prints them. Pure. */
export function natRules(guest: NatGuest, bridge: string, uplink: string): Changes {
  const comment = `-m comment --comment ${commentOf(guest)}`;
  const address = `${guest.guestIp}/32`;
  return {
    nat: [`-A POSTROUTING -s ${address} -o ${uplink} ${comment} -j MASQUERADE`],
    filter: [
      `-A ${CHAIN} -d ${address} -i ${uplink} -o ${bridge} -m conntrack --ctstate RELATED,ESTABLISHED ${comment} -j ACCEPT`,
      `-A ${CHAIN} -s ${address} -i ${bridge} -o ${uplink} ${comment} -j ACCEPT`,
    ],
  };
}

const remove = (rule: string): string => rule.replace(/^-A /, "-D ");
const insertFirst = (rule: string): string => rule.replace(/^-A (\S+) /, "-I $1 1 ");

/** From what is there to exactly the wanted rules of the guest, each once. Pure. */
export function planNat(rules: Ruleset, guest: NatGuest, wanted: Changes): Changes {
  const plan = (there: readonly string[], want: readonly string[]): readonly string[] => {
    const own = there.filter((rule) => isRuleOf(guest, rule));
    if (own.length === want.length && want.every((rule) => own.includes(rule))) return [];
    return [...own.map(remove), ...want.map(insertFirst)];
  };
  return { filter: plan(rules.filter, wanted.filter), nat: plan(rules.nat, wanted.nat) };
}

async function readRuleset(): Promise<Ruleset> {
  return parseRuleset(await runTool("iptables-save", [], { timeoutMs: TIMEOUT_MS }));
}

async function apply(changes: Changes): Promise<void> {
  if (isNothing(changes)) return;
  const text = Object.entries(changes)
    .filter(([, lines]) => lines.length > 0)
    .map(([table, lines]) => `*${table}\n${lines.join("\n")}\nCOMMIT\n`)
    .join("");
  await runTool("iptables-restore", ["--noflush", ...WAIT], { timeoutMs: TIMEOUT_MS, stdin: text });
}

export async function ensureBridgeRules(bridge: string): Promise<void> {
  await apply(planBridge(await readRuleset(), bridge));
}

/** Every rule of every guest with NAT, as printed. */
export async function listNatRules(): Promise<readonly string[]> {
  if (!isInstalled("iptables-save")) return [];
  const { nat, filter } = await readRuleset();
  return [...nat, ...filter].filter((rule) => rule.includes("banger-nat-"));
}

/**
 * Frames that claim a guest's address and come from another port of the bridge than its tap. The attack: a guest without
 * NAT takes the address of one that has it, and reaches out by its rules.
 */
const spoofRule = ({ guestIp, tap }: NatGuest): readonly string[] => [
  ...["INPUT", "-p", "IPv4", "!", "-i", tap, "--ip-src", guestIp, "-j", "DROP"],
];

async function hasSpoofRule({ guestIp, tap }: NatGuest): Promise<boolean> {
  const printed = await runTool("ebtables", ["--concurrent", "-L", "INPUT"], { timeoutMs: TIMEOUT_MS });
  return printed.split("\n").some((line) => line.trim() === `-p IPv4 -i ! ${tap} --ip-src ${guestIp} -j DROP`);
}

/** Removes the guest's rules, whichever uplink they name. */
export async function removeNat(guest: NatGuest): Promise<void> {
  await apply(planNat(await readRuleset(), guest, { filter: [], nat: [] }));
  if (await hasSpoofRule(guest)) {
    await runTool("ebtables", ["--concurrent", "-D", ...spoofRule(guest)], { timeoutMs: TIMEOUT_MS });
  }
}

/** Puts the guest's rules in place for today's uplink, each once. Returns the uplink. */
export async function ensureNat(guest: NatGuest, bridge: string): Promise<string> {
  const uplink = await findUplink();
  if (!(await hasSpoofRule(guest))) {
    await runTool("ebtables", ["--concurrent", "-A", ...spoofRule(guest)], { timeoutMs: TIMEOUT_MS });
  }
  const rules = await readRuleset();
  const base = planBridge(rules, bridge);
  const own = planNat(rules, guest, natRules(guest, bridge, uplink));
  await apply({ filter: [...base.filter, ...own.filter], nat: [...base.nat, ...own.nat] });
  if (readFileSync(IP_FORWARD, "utf8").trim() !== "1") writeFileSync(IP_FORWARD, "1");
  return uplink;
}
