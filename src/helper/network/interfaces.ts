/**
 * Reads interfaces from sysfs, and addresses and routes from `ip -json`. Sources: kernel doc
 * ABI/testing/sysfs-class-net, ip(8).
 */

import { existsSync, readdirSync, readFileSync, readlinkSync, writeFileSync } from "node:fs";
import { basename } from "node:path";
import * as v from "valibot";
import { BangerError, isErrno } from "../../shared/errors.ts";
import { PACKET_MARKS, readMark } from "../../shared/network/walls.ts";
import type { HostRoute, InterfaceFacts } from "../gates.ts";
import { runTool, tryTool } from "../run-tool.ts";
import { IFF_TAP } from "../sys/taps.ts";

const TIMEOUT_MS = 10_000;

/** Runs `ip` with these arguments. */
export async function ip(...args: readonly string[]): Promise<void> {
  await runTool("ip", args, { timeoutMs: TIMEOUT_MS });
}

const Addresses = v.array(
  v.object({
    addr_info: v.optional(v.array(v.object({ local: v.optional(v.string()), prefixlen: v.optional(v.number()) }))),
  }),
);
const Routes = v.array(v.object({ dst: v.optional(v.string()), dev: v.optional(v.string()) }));

export interface Interface extends InterfaceFacts {
  /** The uid that may open the tap; null for a tap without an owner and for other interfaces. */
  readonly uid: number | null;
  readonly mac: string;
  /** True if the interface is up and has a carrier. */
  readonly isUp: boolean;
  /** True for a bridge port that forwards frames. */
  readonly isForwarding: boolean;
}

async function ask<S extends v.GenericSchema>(schema: S, args: readonly string[]): Promise<v.InferOutput<S>> {
  return v.parse(schema, JSON.parse((await runTool("ip", ["-json", ...args], { timeoutMs: TIMEOUT_MS })) || "[]"));
}

const INTERFACES = "/sys/class/net";
/** BR_STATE_FORWARDING of linux/if_bridge.h. */
const FORWARDING = "3";

/** Reads a property; null if the interface or the property doesn't exist, or disappears during the read. */
function readProperty(name: string, property: string): string | null {
  try {
    return readFileSync(`${INTERFACES}/${name}/${property}`, "utf8").trim();
  } catch (thrown) {
    // ENOTDIR: the bonding driver keeps a file among the interfaces. EINVAL: the interface is being removed.
    if (["ENOENT", "ENOTDIR", "ENODEV", "EINVAL"].some((errno) => isErrno(thrown, errno))) return null;
    throw thrown;
  }
}

function readMaster(name: string): string | null {
  try {
    return basename(readlinkSync(`${INTERFACES}/${name}/master`));
  } catch (thrown) {
    if (isErrno(thrown, "ENOENT")) return null;
    throw thrown;
  }
}

/** Reads an interface; null if it doesn't exist. */
export function readInterface(name: string): Interface | null {
  const mac = readProperty(name, "address");
  if (mac === null) return null;
  const tunFlags = readProperty(name, "tun_flags");
  const isBridge = existsSync(`${INTERFACES}/${name}/bridge`);
  const uid = readProperty(name, "owner");
  return {
    name,
    kind: isBridge ? "bridge" : tunFlags === null ? null : "tun",
    tunType: tunFlags === null ? null : (Number(tunFlags) & IFF_TAP) === 0 ? "tun" : "tap",
    master: readMaster(name),
    uid: uid === null || uid === "-1" ? null : Number(uid),
    mac,
    alias: readProperty(name, "ifalias") ?? "",
    isUp: readProperty(name, "operstate") === "up",
    isForwarding: readProperty(name, "brport/state") === FORWARDING,
  };
}

export function listInterfaces(): readonly Interface[] {
  return readdirSync(INTERFACES).flatMap((name) => readInterface(name) ?? []);
}

/** Names the bridge's ports among the given interfaces. Pure. */
export function portsOf(bridge: string, links: readonly Interface[]): readonly string[] {
  return links.filter(({ master }) => master === bridge).map(({ name }) => name);
}

/** Names the bridges that banger made. */
export const markedBridges = (links: readonly Interface[]): readonly string[] =>
  links.filter(({ kind, alias }) => kind === "bridge" && readMark(alias)?.kind === "bridge").map(({ name }) => name);

/** Lists the taps that banger made on that bridge, with the addresses they were made for. */
export function markedTaps(
  links: readonly Interface[],
  bridge: string,
): readonly { readonly tap: string; readonly guestIp: string }[] {
  return links.flatMap(({ name, tunType, master, alias }) => {
    const guestIp = tunType === "tap" && master === bridge ? (readMark(alias)?.guestIp ?? null) : null;
    return guestIp === null ? [] : [{ tap: name, guestIp }];
  });
}

/** Names the bridge's ports. */
export function listPorts(bridge: string): readonly string[] {
  return portsOf(bridge, listInterfaces());
}

/** Lists a device's IPv4 addresses as `a.b.c.d/n`. */
export async function listAddresses(device: string): Promise<readonly string[]> {
  const found = await ask(Addresses, ["-4", "address", "show", "dev", device]);
  return found.flatMap(({ addr_info }) =>
    (addr_info ?? []).flatMap(({ local, prefixlen }) => (local === undefined ? [] : [`${local}/${prefixlen ?? 32}`])),
  );
}

/** Lists every IPv4 route of every table except default routes, including the host's own addresses. */
export async function listRoutes(): Promise<readonly HostRoute[]> {
  const routes = await ask(Routes, ["-4", "route", "show", "table", "all"]);
  return routes.flatMap(({ dst, dev }) =>
    dst === undefined || dst === "default" ? [] : [{ destination: dst, device: dev ?? "no device" }],
  );
}

/**
 * Disables IPv6 on a device. Guests use IPv4 only; a host that forwards IPv6 would otherwise forward a guest's IPv6
 * packets past every IPv4 rule.
 */
export function disableIpv6(device: string): void {
  try {
    writeFileSync(`/proc/sys/net/ipv6/conf/${device}/disable_ipv6`, "1");
  } catch (thrown) {
    // On a kernel without IPv6 there is nothing to disable.
    if (!isErrno(thrown, "ENOENT")) throw thrown;
  }
}

/** Finds the device of the default route. @throws BangerError NETWORK without a default route */
export async function findUplink(): Promise<string> {
  const result = await tryTool("ip", ["-json", "-4", "route", "show", "default"], { timeoutMs: TIMEOUT_MS });
  const routes =
    result.exitCode === 0 ? v.parse(Routes, JSON.parse(new TextDecoder().decode(result.stdout) || "[]")) : [];
  const device = routes[0]?.dev;
  if (device === undefined)
    throw new BangerError("NETWORK", "this host has no default route, so guests can't reach the network");
  return device;
}

/**
 * Finds the device through which a packet of a guest with NAT, arriving on `input`, would leave; null if the kernel has
 * no route for it.
 */
export async function findRouteOut(source: string, target: string, input: string): Promise<string | null> {
  const words = ["-json", "-4", "route", "get", target, "from", source, "iif", input, "mark", String(PACKET_MARKS.out)];
  const { exitCode, stdout } = await tryTool("ip", words, { timeoutMs: TIMEOUT_MS });
  if (exitCode !== 0) return null;
  return v.parse(Routes, JSON.parse(new TextDecoder().decode(stdout) || "[]"))[0]?.dev ?? null;
}
