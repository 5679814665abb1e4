/**
 * Forwarding by interface. A guest with NAT needs forwarding on the bridge and the uplink, and on no other interface.
 * Switches that were on stay on. Those that we turn on are recorded first, and turned off with the last guest that
 * needs them. Source: kernel doc networking/ip-sysctl.
 */

import { readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { isErrno } from "../../shared/errors.ts";
import { SWITCHES, SWITCHES_ROOT, switchesFile } from "../../shared/network/walls.ts";
import type { HelperContext } from "../context.ts";
import { isBridgeName } from "../../shared/host-names.ts";

type Paths = Pick<HelperContext, "paths">;
/** Writing 1 here, as Docker does, turns on forwarding on every interface. */
const ALL = "/proc/sys/net/ipv4/ip_forward";

/** Reads a switch; null if the interface doesn't exist or is gone. */
function read(key: string): string | null {
  try {
    return readFileSync(`${SWITCHES_ROOT}/${key}`, "utf8").trim();
  } catch (thrown) {
    if (isErrno(thrown, "ENOENT")) return null;
    throw thrown;
  }
}

function write(key: string, value: "0" | "1"): void {
  try {
    writeFileSync(`${SWITCHES_ROOT}/${key}`, value);
  } catch (thrown) {
    // The interface is gone, and its switches with it.
    if (!isErrno(thrown, "ENOENT")) throw thrown;
  }
}

/** Lists the switches that we turned on and that still exist, as `INTERFACE/KEY`. */
export const listSwitched = (context: Paths): readonly string[] =>
  readRecord(context).filter((key) => read(key) !== null);

function readRecord({ paths }: Paths): readonly string[] {
  try {
    return readFileSync(switchesFile(paths), "utf8")
      .split("\n")
      .filter((line) => line !== "");
  } catch (thrown) {
    if (isErrno(thrown, "ENOENT")) return [];
    throw thrown;
  }
}

function remember({ paths }: Paths, keys: readonly string[]): void {
  const file = switchesFile(paths);
  if (keys.length === 0) {
    rmSync(file, { force: true });
    return;
  }
  writeFileSync(`${file}.new`, `${keys.join("\n")}\n`, { mode: 0o600 });
  renameSync(`${file}.new`, file);
}

const isHostForwarding = (): boolean => readFileSync(ALL, "utf8").trim() !== "0";

/**
 * Turns switches off. If the host has become a router meanwhile, forwarding on its interfaces is no longer ours to turn
 * off.
 */
function turnOff(keys: readonly string[]): void {
  for (const key of keys) if (!(key.endsWith("/forwarding") && isHostForwarding())) write(key, "0");
}

export interface SwitchPlan {
  /** Switches to turn on. */
  readonly missing: readonly string[];
  /** Switches to turn off, which we turned on for another uplink or bridge. */
  readonly stale: readonly string[];
  /** All switches that we will have turned on. */
  readonly kept: readonly string[];
  /** Interfaces that will forward only for guests. */
  readonly forwardingForGuests: readonly string[];
}

/**
 * Plans the switches that guests with NAT need on this bridge and uplink, and those no longer needed on another uplink.
 */
export function planSwitches(context: Paths, bridge: string, uplink: string): SwitchPlan {
  const needed = [`${bridge}/forwarding`, ...SWITCHES.map((key) => `${uplink}/${key}`)];
  const before = readRecord(context);
  const isOfBridge = (key: string): boolean => isBridgeName(key.split("/")[0] ?? "");
  const stale = before.filter((key) => (isOfBridge(key) ? read(key) === null : !needed.includes(key)));
  const missing = needed.filter((key) => read(key) === "0");
  const kept = [...new Set([...before.filter((key) => !stale.includes(key)), ...missing])];
  const isForGuests = kept.includes(`${uplink}/forwarding`) && !isHostForwarding();
  return { missing, stale, kept, forwardingForGuests: isForGuests ? [uplink] : [] };
}

export function applySwitches(context: Paths, { missing, stale, kept }: SwitchPlan): void {
  if (missing.length + stale.length === 0) return;
  // Recorded before acting: if the helper ends in between, the record still lists every switch we turned on.
  remember(context, [...new Set([...kept, ...stale])]);
  turnOff(stale);
  for (const key of missing) write(key, "1");
  remember(context, kept);
}

/** Turns off the switches that we turned on. Returns whether there were any. */
export function turnAllOff(context: Paths): boolean {
  const keys = readRecord(context);
  turnOff(keys);
  remember(context, []);
  return keys.length > 0;
}
