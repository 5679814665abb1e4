/**
 * Compares the host's packet counters before and after a packet to tell what dropped it. Pure. Source:
 * iptables-save(8), iptables(8) "packets through the tables", libnftables-json(5).
 */

import * as v from "valibot";
import type { NatDropper } from "../../shared/contract/helper-api.ts";
import { ACCEPT_CHAIN, NFT_TABLE } from "../../shared/network/walls.ts";
import { unquoteComments } from "./iptables.ts";

interface CountedRule {
  /** The rule as `iptables-save` prints it without counters. */
  readonly text: string;
  /** The target of `-j` or `-g`; null for a rule that only counts. */
  readonly target: string | null;
  readonly packets: number;
}

interface CountedChain {
  /** Null for a chain that other chains jump to. */
  readonly policy: string | null;
  /** Packets that reached the policy. */
  readonly packets: number;
  readonly rules: readonly CountedRule[];
}

/** Chains by table and name. */
export type CountedTables = ReadonlyMap<string, ReadonlyMap<string, CountedChain>>;

const NUMBERS = /^\[(\d+):\d+\] /;

/** Parses the output of `iptables-save -c`. */
export function parseCounters(saved: string): CountedTables {
  const tables = new Map<string, Map<string, { policy: string | null; packets: number; rules: CountedRule[] }>>();
  let chains = new Map<string, { policy: string | null; packets: number; rules: CountedRule[] }>();
  for (const line of saved.split("\n")) {
    if (line.startsWith("*")) {
      chains = tables.get(line.slice(1)) ?? new Map();
      tables.set(line.slice(1), chains);
    } else if (line.startsWith(":")) {
      const [, name, policy, packets] = /^:(\S+) (\S+) \[(\d+):\d+\]/.exec(line) ?? [];
      if (name === undefined) continue;
      chains.set(name, { policy: policy === "-" ? null : (policy ?? null), packets: Number(packets), rules: [] });
    } else {
      const packets = NUMBERS.exec(line)?.[1];
      const text = unquoteComments(line.replace(NUMBERS, ""));
      const chain = /^-A (\S+)/.exec(text)?.[1];
      if (packets === undefined || chain === undefined) continue;
      // A comment may contain the words that mark a target.
      const target = / -[jg] (\S+)/.exec(text.replaceAll(/"(?:[^"\\]|\\.)*"/g, '""'))?.[1] ?? null;
      chains.get(chain)?.rules.push({ text, target, packets: Number(packets) });
    }
  }
  return tables;
}

/** The chains that a forwarded packet traverses before masquerading, in order. */
const WAY: readonly (readonly [table: string, chain: string])[] = [
  ["raw", "PREROUTING"],
  ["mangle", "PREROUTING"],
  ["nat", "PREROUTING"],
  ["mangle", "FORWARD"],
  ["filter", "FORWARD"],
  ["security", "FORWARD"],
  ["mangle", "POSTROUTING"],
];

/** A rule or policy that drops packets. */
export interface Ending {
  readonly by: Exclude<NatDropper, "ip_forward" | "route" | "unknown">;
  /** Names of the table and chain. */
  readonly where: string;
  readonly packets: number;
}

/** Products, by the names of the chains they make. */
const MAKERS: readonly (readonly [by: Ending["by"], chain: RegExp])[] = [
  ["ufw", /^ufw6?-/],
  ["docker", /^DOCKER/],
  ["firewalld", /^(?:FORWARD|PREROUTING|POSTROUTING)_(?:direct|ZONES|IN_ZONES|OUT_ZONES|POLICIES)|^FWD[IO]?_/],
];
const makerOf = (chain: string): Ending["by"] | null => MAKERS.find(([, pattern]) => pattern.test(chain))?.[0] ?? null;

/** Lists every drop and reject that a forwarded packet can reach, in order of traversal. Our own chain is left out. */
export function listEndings(tables: CountedTables): readonly Ending[] {
  return WAY.flatMap(([table, hook]) => {
    const chains = tables.get(table);
    const base = chains?.get(hook);
    if (chains === undefined || base === undefined) return [];
    const reached = new Set([hook]);
    for (const name of reached) {
      for (const { target } of chains.get(name)?.rules ?? []) {
        if (target !== null && target !== ACCEPT_CHAIN && chains.has(target)) reached.add(target);
      }
    }
    // A policy doesn't name its product. Assume the product whose chains are called from here.
    const makers = [...reached].flatMap((name) => makerOf(name) ?? []);
    const maker = MAKERS.map(([by]) => by).find((by) => makers.includes(by)) ?? "rule";
    const byRules = [...reached].flatMap((name) =>
      (chains.get(name)?.rules ?? []).flatMap(({ text, target, packets }): readonly Ending[] => {
        if (target !== "DROP" && target !== "REJECT") return [];
        // firewalld puts its final rule in the base chain itself, with exactly this answer.
        const isFirewalls = name === hook && maker === "firewalld" && text.includes("icmp-host-prohibited");
        return [
          { by: makerOf(name) ?? (isFirewalls ? "firewalld" : "rule"), where: `iptables ${table} ${name}`, packets },
        ];
      }),
    );
    if (base.policy !== "DROP") return byRules;
    return [...byRules, { by: maker, where: `iptables ${table} ${hook}`, packets: base.packets }];
  });
}

/** Finds the first ending that dropped packets between the two readings; null if none did. */
export function findRisen(before: readonly Ending[], after: readonly Ending[]): Ending | null {
  const sums = (endings: readonly Ending[]): ReadonlyMap<string, number> => {
    const byWhere = new Map<string, number>();
    for (const { where, packets } of endings) byWhere.set(where, (byWhere.get(where) ?? 0) + packets);
    return byWhere;
  };
  const [old, now] = [sums(before), sums(after)];
  return after.find(({ where }) => (now.get(where) ?? 0) > (old.get(where) ?? 0)) ?? null;
}

const NftChain = v.object({
  family: v.string(),
  table: v.string(),
  name: v.string(),
  hook: v.optional(v.string()),
  policy: v.optional(v.string()),
});
const NftRule = v.object({ family: v.string(), table: v.string(), chain: v.string(), expr: v.array(v.unknown()) });
const NftRuleset = v.object({
  nftables: v.array(v.object({ chain: v.optional(NftChain), rule: v.optional(NftRule) })),
});
const Counter = v.object({ counter: v.object({ packets: v.number() }) });

/** An nft table that may drop forwarded packets, named by the chain that sees them. */
export interface NftFilter extends Pick<Ending, "by" | "where"> {
  /** Packets counted by its drops and rejects. Those without a counter add nothing. */
  readonly packets: number;
}

/** Tables that `iptables` keeps in nft; `iptables-save` lists them. */
const KEPT_BY_IPTABLES = /^ip (?:filter|nat|mangle|raw|security)$/;
const FORWARDED = ["prerouting", "forward", "postrouting"];

/**
 * Parses `nft -j list ruleset` for tables with a drop or reject that a forwarded packet can reach. Filters run one
 * after another, so our accept in one doesn't exempt a packet from the next. @throws Error if the text has another form
 */
export function parseNftFilters(json: string): readonly NftFilter[] {
  const { nftables } = v.parse(NftRuleset, JSON.parse(json));
  const chains = nftables.flatMap(({ chain }) => chain ?? []).filter(({ family }) => ["ip", "inet"].includes(family));
  const rules = nftables.flatMap(({ rule }) => rule ?? []);
  const tables = [...new Set(chains.map(({ family, table }) => `${family} ${table}`))];
  return tables.flatMap((name): readonly NftFilter[] => {
    if (KEPT_BY_IPTABLES.test(name) || name === `inet ${NFT_TABLE}`) return [];
    const own = chains.filter(({ family, table }) => `${family} ${table}` === name);
    const asked = own.filter(({ hook }) => hook !== undefined && FORWARDED.includes(hook));
    const [first] = asked;
    if (first === undefined) return [];
    const reachable = new Set(
      own.filter(({ hook }) => hook === undefined || FORWARDED.includes(hook)).map((chain) => chain.name),
    );
    const endings = rules.filter(
      ({ family, table, chain, expr }) =>
        `${family} ${table}` === name && reachable.has(chain) && expr.some((part) => isEnding(part)),
    );
    if (endings.length === 0 && !asked.some(({ policy }) => policy === "drop")) return [];
    const packets = endings
      .flatMap(({ expr }) => expr)
      .map((part) => v.safeParse(Counter, part))
      .reduce((sum, parsed) => sum + (parsed.success ? parsed.output.counter.packets : 0), 0);
    const by = /firewalld/.test(name) ? "firewalld" : /docker/i.test(name) ? "docker" : "rule";
    const { name: chain } = asked.find(({ hook }) => hook === "forward") ?? first;
    return [{ by, where: `nft ${name} ${chain}`, packets }];
  });
}

const isEnding = (part: unknown): boolean =>
  typeof part === "object" && part !== null && ("drop" in part || "reject" in part);
