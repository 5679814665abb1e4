/**
 * Takes banger's network off the host when it is uninstalled: rules of every family that it writes, or that an earlier version
 * wrote. Source: nft(8), ip-rule(8), iptables(8), ebtables(8), ip-link(8).
 */

import { readFileSync, rmSync, writeFileSync } from "node:fs";
import { BangerError, isErrno } from "../../../shared/errors.ts";
import { isBridgeName, parseEarlierSpoofRule } from "../../../shared/host-names.ts";
import { type SystemPaths, systemPaths } from "../../../shared/places/paths.ts";
import {
  ACCEPT_CHAIN as CHAIN,
  NFT_TABLE,
  readMark,
  RULE_PREFERENCES,
  SWITCHES,
  SWITCHES_ROOT,
  switchesFile,
} from "../../../shared/network/walls.ts";
import { runRootTool, tryRootTool } from "./root-tool.ts";

const TOOL_TIMEOUT_MS = 30_000;
const WAIT = ["-w", "10"];
/** Earlier versions' comment of each rule that stood outside their chain. */
const EARLIER_COMMENT = /^-A .* --comment "?banger-nat-[a-z0-9.-]+"? -j /;

/**
 * The arguments of iptables that delete, of the rules `iptables -S` printed, those that are banger's. Pure.
 * A rule whose words hold blanks is somebody else's: banger's never do.
 */
export function deletionsOf(printed: string): readonly (readonly string[])[] {
  return printed
    .split("\n")
    .filter((line) => line === `-A FORWARD -j ${CHAIN}` || EARLIER_COMMENT.test(line))
    .map((line) => line.split(" ").map((word) => word.replace(/^"(.*)"$/, "$1")))
    .filter((words) => words[1] !== CHAIN)
    .map(([, ...rest]) => ["-D", ...rest]);
}

/** The arguments of ebtables that delete, of what `ebtables -L INPUT` printed, what an earlier version wrote. Pure. */
export function spoofDeletionsOf(printed: string): readonly (readonly string[])[] {
  return printed.split("\n").flatMap((line) => {
    const words = parseEarlierSpoofRule(line);
    return words === null ? [] : [["-D", ...words]];
  });
}

/**
 * The arguments of `ip` that delete, of the rules `ip rule show` printed, those that are banger's: at its preferences, and of its
 * form. Pure.
 */
export function policyDeletionsOf(printed: string): readonly (readonly string[])[] {
  const { out, shut, next } = RULE_PREFERENCES;
  return printed.split("\n").flatMap((line) => {
    const [, preference, rest = ""] = /^(\d+):\s+from all (.*?)\s*$/.exec(line) ?? [];
    const bridge = / ?iif (\S+)/.exec(rest)?.[1];
    const isOurs =
      (Number(preference) === out && rest.includes(`goto ${next}`)) ||
      (Number(preference) === shut && rest.endsWith("prohibit")) ||
      (Number(preference) === next && rest === "nop");
    if (preference === undefined || !isOurs || (bridge !== undefined && !isBridgeName(bridge))) return [];
    return [["-4", "rule", "delete", "pref", preference, ...(bridge === undefined ? [] : ["iif", bridge])]];
  });
}

/** Removes rules, tables and chains, and turns off what was turned on for guests. @throws BangerError FAILED */
export async function removeFirewallRules(paths: Pick<SystemPaths, "helperSocket"> = systemPaths()): Promise<void> {
  turnSwitchesOff(switchesFile(paths));
  await removePolicyRules();
  for (const table of ["nat", "filter"]) {
    const { stdout } = await tryIfInstalled(["iptables", ...WAIT, "-t", table, "-S"]);
    for (const words of deletionsOf(stdout))
      await runRootTool(["iptables", ...WAIT, "-t", table, ...words], TOOL_TIMEOUT_MS);
    if (!stdout.split("\n").includes(`-N ${CHAIN}`)) continue;
    for (const word of ["-F", "-X"])
      await runRootTool(["iptables", ...WAIT, "-t", table, word, CHAIN], TOOL_TIMEOUT_MS);
  }
  const { stdout: spoofRules } = await tryIfInstalled(["ebtables", "--concurrent", "-L", "INPUT"]);
  for (const words of spoofDeletionsOf(spoofRules))
    await runRootTool(["ebtables", "--concurrent", ...words], TOOL_TIMEOUT_MS);
  // Last: they keep guests in.
  const { stdout: tables } = await tryIfInstalled(["nft", "list", "tables"]);
  for (const family of ["inet", "netdev"]) {
    if (tables.split("\n").includes(`table ${family} ${NFT_TABLE}`))
      await runRootTool(["nft", "delete", "table", family, NFT_TABLE], TOOL_TIMEOUT_MS);
  }
}

async function removePolicyRules(): Promise<void> {
  const { stdout } = await tryIfInstalled(["ip", "-4", "rule", "show"]);
  for (const words of policyDeletionsOf(stdout)) await runRootTool(["ip", ...words], TOOL_TIMEOUT_MS);
}

/** Nothing printed where the program isn't there: then it has written nothing either. */
async function tryIfInstalled(argv: readonly string[]): ReturnType<typeof tryRootTool> {
  try {
    return await tryRootTool(argv, TOOL_TIMEOUT_MS);
  } catch (thrown) {
    if (thrown instanceof BangerError && thrown.code === "TOOL_MISSING") return { status: 0, stdout: "", stderr: "" };
    throw thrown;
  }
}

/** Those that the helper wrote down. A host that forwards by now does so for somebody else. */
function turnSwitchesOff(file: string): void {
  const isHostForwarding = readIfThere("/proc/sys/net/ipv4/ip_forward").trim() !== "0";
  for (const line of readIfThere(file).split("\n")) {
    const [device = "", key = ""] = line.split("/");
    if (!(SWITCHES as readonly string[]).includes(key) || (key === "forwarding" && isHostForwarding)) continue;
    if (readIfThere(`${SWITCHES_ROOT}/${device}/${key}`) !== "")
      writeFileSync(`${SWITCHES_ROOT}/${device}/${key}`, "0");
  }
  rmSync(file, { force: true });
}

function readIfThere(path: string): string {
  try {
    return readFileSync(path, "utf8");
  } catch (thrown) {
    if (isErrno(thrown, "ENOENT")) return "";
    throw thrown;
  }
}

/** Whether banger made an interface. */
export function isMarkedInterface(name: string): boolean {
  return readMark(readIfThere(`/sys/class/net/${name}/ifalias`).trim()) !== null;
}

/** @throws BangerError FAILED, and for an interface that banger didn't make */
export async function removeInterface(name: string): Promise<void> {
  if (!isMarkedInterface(name))
    throw new BangerError("FAILED", `${name} does not carry banger's mark; see: ip link show ${name}`);
  await runRootTool(["ip", "link", "delete", "dev", name], TOOL_TIMEOUT_MS);
}
