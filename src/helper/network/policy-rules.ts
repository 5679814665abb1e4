/**
 * The last wall: packets from the bridge are routed only if they carry the mark that our nft rules give to guests with
 * NAT. Flushing nft rules leaves this wall in place and stops the marking, so guests stay shut in. Packets for the host
 * itself are matched earlier, in the kernel's table `local`. Source: ip-rule(8).
 */

import * as v from "valibot";
import { PACKET_MARKS, RULE_PREFERENCES } from "../../shared/network/walls.ts";
import { runTool } from "../run-tool.ts";

const TIMEOUT_MS = 10_000;
const { out, shut, next } = RULE_PREFERENCES;
const MARK = `0x${PACKET_MARKS.out.toString(16)}`;
/** systemd-networkd removes other programs' rules, except those marked as the kernel's. */
const PROTOCOL = "protocol kernel";

const Rules = v.array(
  v.object({
    priority: v.optional(v.number()),
    iif: v.optional(v.string()),
    fwmark: v.optional(v.string()),
    fwmask: v.optional(v.string()),
    goto: v.optional(v.number()),
    action: v.optional(v.string()),
    nop: v.optional(v.null()),
  }),
);
type Rule = v.InferOutput<typeof Rules>[number];

async function readRules(): Promise<readonly Rule[]> {
  return v.parse(
    Rules,
    JSON.parse((await runTool("ip", ["-json", "-4", "rule", "show"], { timeoutMs: TIMEOUT_MS })) || "[]"),
  );
}

/** Plans the lines for `ip -batch`; none if all rules are in place. The rule that lets packets out comes last. Pure. */
export function planPolicyRules(rules: readonly Rule[], bridge: string): readonly string[] {
  const has = (matches: (rule: Rule) => boolean): boolean => rules.some(matches);
  const isShut = has(({ priority, iif, action }) => priority === shut && iif === bridge && action === "prohibit");
  const hasNext = has(({ priority, nop }) => priority === next && nop === null);
  const isOut = has(
    (rule) =>
      rule.priority === out &&
      rule.iif === bridge &&
      rule.fwmark === MARK &&
      rule.fwmask === MARK &&
      rule.goto === next,
  );
  return [
    ...(isShut ? [] : [`rule add pref ${shut} iif ${bridge} prohibit ${PROTOCOL}`]),
    ...(hasNext ? [] : [`rule add pref ${next} nop ${PROTOCOL}`]),
    ...(isOut ? [] : [`rule add pref ${out} iif ${bridge} fwmark ${MARK}/${MARK} goto ${next} ${PROTOCOL}`]),
  ];
}

export async function ensurePolicyRules(bridge: string): Promise<void> {
  const lines = planPolicyRules(await readRules(), bridge);
  if (lines.length === 0) return;
  await runTool("ip", ["-4", "-batch", "-"], { timeoutMs: TIMEOUT_MS, stdin: `${lines.join("\n")}\n` });
}

/** Lists the preferences that hold rules of ours. */
export async function listPolicyRules(): Promise<readonly number[]> {
  const own: readonly number[] = [out, shut, next];
  return [...new Set((await readRules()).flatMap(({ priority }) => priority ?? []))].filter((each) =>
    own.includes(each),
  );
}
