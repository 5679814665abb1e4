import { bridgeName } from "../gates.ts";
import { readInterface } from "../network/interfaces.ts";
import { runTool } from "../run-tool.ts";
import { networkLock, type Verb } from "../verb.ts";

const TIMEOUT_MS = 15_000;

export const clearResolverRouting: Verb<"priv.clear_resolver_routing"> = {
  gates: [bridgeName],
  facts: [],
  lock: networkLock,
  run: async ({ bridge }) => {
    if (readInterface(bridge) !== null) await runTool("resolvectl", ["revert", bridge], { timeoutMs: TIMEOUT_MS });
    return {};
  },
};
