/**
 * Forwarding by interface: a guest with NAT needs it on the bridge and on the uplink, and no other interface is to forward because
 * of that. What was on already stays as it is; what we turned on is written down before, and turned off again with the last guest
 * that needed it. Source: kernel doc networking/ip-sysctl.
 */

import { readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { isErrno } from "../../shared/errors.ts";
import { SWITCHES, SWITCHES_ROOT, switchesFile } from "../../shared/network/walls.ts";
import type { HelperContext } from "../context.ts";
import { isBridgeName } from "../../shared/host-names.ts";

type Paths = Pick<HelperContext, "paths">;
/** Writing 1 here, as Docker does, turns on every interface's. */
const ALL = "/proc/sys/net/ipv4/ip_forward";

/** Null when there is no such interface (any more). */
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
    // The interface went, and its switches with it.
    if (!isErrno(thrown, "ENOENT")) throw thrown;
  }
}

/** What we turned on and is there, as `INTERFACE/KEY`. */
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

/** When somebody has made a router of the host since, its interfaces' forwarding is theirs. */
function turnOff(keys: readonly string[]): void {
  for (const key of keys) if (!(key.endsWith("/forwarding") && isHostForwarding())) write(key, "0");
}

export interface SwitchPlan {
  /** To be turned on. */
  readonly missing: readonly string[];
  /** Turned on by us for another uplink or bridge: to be turned off. */
  readonly stale: readonly string[];
  /** Turned on by us, then. */
  readonly kept: readonly string[];
  /** Interfaces that forward for guests' sake only, then. */
  readonly forwardingForGuests: readonly string[];
}

/** What guests with NAT need on these two, and no longer need on another uplink. */
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
  // Written down before it is done: a helper that ends in between leaves nothing that nobody knows of.
  remember(context, [...new Set([...kept, ...stale])]);
  turnOff(stale);
  for (const key of missing) write(key, "1");
  remember(context, kept);
}

/** Turns off what we turned on. Returns whether that was anything. */
export function turnAllOff(context: Paths): boolean {
  const keys = readRecord(context);
  turnOff(keys);
  remember(context, []);
  return keys.length > 0;
}
