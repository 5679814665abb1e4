import { BangerError } from "../../shared/errors.ts";
import { bridgeName, enforce, realBridge, resolverAddress, resolverIsOurs } from "../gates.ts";
import { listAddresses, listPorts, readInterface } from "../network/interfaces.ts";
import { runTool } from "../run-tool.ts";
import { networkLock, type Verb } from "../verb.ts";

const TIMEOUT_MS = 15_000;

export const syncResolverRouting: Verb<"priv.sync_resolver_routing"> = {
  gates: [bridgeName, resolverAddress],
  facts: [realBridge, resolverIsOurs],
  lock: networkLock,
  run: async ({ bridge, resolver }) => {
    const link = readInterface(bridge);
    if (link === null) throw new BangerError("FAILED", `${bridge} does not exist`);
    enforce(realBridge, { link, ports: listPorts(bridge) });
    enforce(resolverIsOurs, { resolver, addresses: await listAddresses(bridge) });
    await runTool("resolvectl", ["default-route", bridge, "no"], { timeoutMs: TIMEOUT_MS });
    await runTool("resolvectl", ["domain", bridge, "~vm"], { timeoutMs: TIMEOUT_MS });
    await runTool("resolvectl", ["dns", bridge, resolver], { timeoutMs: TIMEOUT_MS });
    return {};
  },
};
