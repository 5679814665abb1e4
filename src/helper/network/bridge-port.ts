/**
 * How a guest's port of the bridge is set: it passes nothing to other guests' ports, learns nothing and floods nothing, so the
 * bridge's table can't grow. Fixed entries stand in place of what would be learned. No flush of firewall rules touches these.
 * Source: bridge(8), kernel doc networking/bridge, linux/if_bridge.h.
 */

import { writeFileSync } from "node:fs";
import { macOf } from "../../shared/network/guest-mac.ts";
import { runTool } from "../run-tool.ts";
import { fixNeighbour } from "../sys/interfaces.ts";

const TIMEOUT_MS = 10_000;
const PORT: readonly (readonly [property: string, value: string])[] = [
  ["isolated", "1"],
  ["learning", "0"],
  ["unicast_flood", "0"],
  ["multicast_flood", "0"],
  ["broadcast_flood", "0"],
  ["multicast_router", "0"],
];

export interface Port {
  readonly tap: string;
  readonly guestIp: string;
}

/** Shuts the port off from the others, and fixes where its guest is. The entry of the bridge's table is {@link fixPorts}'. */
export function isolatePort(bridge: string, { tap, guestIp }: Port): void {
  for (const [property, value] of PORT) writeFileSync(`/sys/class/net/${tap}/brport/${property}`, value);
  fixNeighbour(bridge, guestIp, macOf(guestIp));
}

/** Fixes behind which port each guest's MAC address is. */
export async function fixPorts(ports: readonly Port[]): Promise<void> {
  if (ports.length === 0) return;
  const lines = ports.map(({ tap, guestIp }) => `fdb replace ${macOf(guestIp)} dev ${tap} master static`);
  await runTool("bridge", ["-batch", "-"], { timeoutMs: TIMEOUT_MS, stdin: `${lines.join("\n")}\n` });
}

/** The bridge keeps no list of who listens to which multicast: guests would fill it. */
export function stopSnooping(bridge: string): void {
  writeFileSync(`/sys/class/net/${bridge}/bridge/multicast_snooping`, "0");
}
