/**
 * Isolates guests' bridge ports. A port forwards nothing to other guests, learns nothing and floods nothing, so the
 * bridge's table can't grow; static entries replace learned ones. Flushing firewall rules doesn't change these
 * settings. Source: bridge(8), kernel doc networking/bridge, linux/if_bridge.h.
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

/**
 * Isolates the port from the others and fixes its guest's neighbour entry. {@link fixPorts} adds its entry to the
 * bridge's table.
 */
export function isolatePort(bridge: string, { tap, guestIp }: Port): void {
  for (const [property, value] of PORT) writeFileSync(`/sys/class/net/${tap}/brport/${property}`, value);
  fixNeighbour(bridge, guestIp, macOf(guestIp));
}

/** Adds a static entry to the bridge's table for each guest's MAC address. */
export async function fixPorts(ports: readonly Port[]): Promise<void> {
  if (ports.length === 0) return;
  const lines = ports.map(({ tap, guestIp }) => `fdb replace ${macOf(guestIp)} dev ${tap} master static`);
  await runTool("bridge", ["-batch", "-"], { timeoutMs: TIMEOUT_MS, stdin: `${lines.join("\n")}\n` });
}

/** Turns off the bridge's list of multicast listeners, because guests could fill it. */
export function stopSnooping(bridge: string): void {
  writeFileSync(`/sys/class/net/${bridge}/bridge/multicast_snooping`, "0");
}
