/** Takes banger's network off the host when it is uninstalled. Source: iptables(8), ip-link(8). */

import { runRootTool, tryRootTool } from "./root-tool.ts";

const TOOL_TIMEOUT_MS = 30_000;
const WAIT = ["-w", "10"];
/** The helper's own chain, and the comment of each rule it puts elsewhere. */
const CHAIN = "BANGER-FORWARD";
const OWN_COMMENT = /^-A .* --comment "?banger-nat-[a-z0-9.-]+"? -j /;

/**
 * The arguments of iptables that delete, of the rules `iptables -S` printed, those that are banger's. Pure.
 * A rule whose words hold blanks is somebody else's: banger's never do.
 */
export function deletionsOf(printed: string): readonly (readonly string[])[] {
  return printed
    .split("\n")
    .filter((line) => line === `-A FORWARD -j ${CHAIN}` || OWN_COMMENT.test(line))
    .map((line) => line.split(" ").map((word) => word.replace(/^"(.*)"$/, "$1")))
    .filter((words) => words[1] !== CHAIN)
    .map(([, ...rest]) => ["-D", ...rest]);
}

/** Removes the rules and the chain. @throws BangerError FAILED */
export async function removeFirewallRules(): Promise<void> {
  for (const table of ["nat", "filter"]) {
    const { stdout } = await tryRootTool(["iptables", ...WAIT, "-t", table, "-S"], TOOL_TIMEOUT_MS);
    for (const words of deletionsOf(stdout))
      await runRootTool(["iptables", ...WAIT, "-t", table, ...words], TOOL_TIMEOUT_MS);
    if (!stdout.split("\n").includes(`-N ${CHAIN}`)) continue;
    for (const word of ["-F", "-X"])
      await runRootTool(["iptables", ...WAIT, "-t", table, word, CHAIN], TOOL_TIMEOUT_MS);
  }
}

/** @throws BangerError FAILED */
export async function removeInterface(name: string): Promise<void> {
  await runRootTool(["ip", "link", "delete", "dev", name], TOOL_TIMEOUT_MS);
}
