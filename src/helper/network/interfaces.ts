/** Interfaces, by sysfs; addresses and routes, by `ip -json`. Sources: kernel doc ABI/testing/sysfs-class-net, ip(8). */

import { existsSync, readdirSync, readFileSync, readlinkSync, writeFileSync } from "node:fs";
import { basename } from "node:path";
import * as v from "valibot";
import { BangerError, isErrno } from "../../shared/errors.ts";
import { BRIDGE_ALIAS, PACKET_MARKS, parseTapAlias } from "../../shared/network/walls.ts";
import type { HostRoute, InterfaceFacts } from "../gates.ts";
import { runTool, tryTool } from "../run-tool.ts";
import { IFF_TAP } from "../sys/taps.ts";

const TIMEOUT_MS = 10_000;

/** Runs `ip` with these words. */
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
  /** Who may open a tap; null for a tap without an owner, and for what is none. */
  readonly uid: number | null;
  readonly mac: string;
  /** Up, with a carrier. */
  readonly isUp: boolean;
  /** True for a bridge's port that passes frames on. */
  readonly isForwarding: boolean;
}

async function ask<S extends v.GenericSchema>(schema: S, args: readonly string[]): Promise<v.InferOutput<S>> {
  return v.parse(schema, JSON.parse((await runTool("ip", ["-json", ...args], { timeoutMs: TIMEOUT_MS })) || "[]"));
}

const INTERFACES = "/sys/class/net";
/** BR_STATE_FORWARDING of linux/if_bridge.h. */
const FORWARDING = "3";

/** Null when the interface, or that property of its kind, isn't there, or goes while it is read. */
function readProperty(name: string, property: string): string | null {
  try {
    return readFileSync(`${INTERFACES}/${name}/${property}`, "utf8").trim();
  } catch (thrown) {
    // ENOTDIR: bonding keeps a file among the interfaces. EINVAL: the kernel's word for an interface that is going.
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

/** Null when there is no such interface. */
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

/** Names of a bridge's ports among interfaces. Pure. */
export function portsOf(bridge: string, links: readonly Interface[]): readonly string[] {
  return links.filter(({ master }) => master === bridge).map(({ name }) => name);
}

/** Bridges that banger made. */
export const markedBridges = (links: readonly Interface[]): readonly string[] =>
  links.filter(({ kind, alias }) => kind === "bridge" && alias === BRIDGE_ALIAS).map(({ name }) => name);

/** Taps that banger made, on that bridge, with the addresses they were made for. */
export function markedTaps(
  links: readonly Interface[],
  bridge: string,
): readonly { readonly tap: string; readonly guestIp: string }[] {
  return links.flatMap(({ name, tunType, master, alias }) => {
    const guestIp = tunType === "tap" && master === bridge ? parseTapAlias(alias) : null;
    return guestIp === null ? [] : [{ tap: name, guestIp }];
  });
}

/** Names of a bridge's ports. */
export function listPorts(bridge: string): readonly string[] {
  return portsOf(bridge, listInterfaces());
}

/** A device's IPv4 addresses as `a.b.c.d/n`. */
export async function listAddresses(device: string): Promise<readonly string[]> {
  const found = await ask(Addresses, ["-4", "address", "show", "dev", device]);
  return found.flatMap(({ addr_info }) =>
    (addr_info ?? []).flatMap(({ local, prefixlen }) => (local === undefined ? [] : [`${local}/${prefixlen ?? 32}`])),
  );
}

/** Every IPv4 route of every table but the default ones, addresses of the host included. */
export async function listRoutes(): Promise<readonly HostRoute[]> {
  const routes = await ask(Routes, ["-4", "route", "show", "table", "all"]);
  return routes.flatMap(({ dst, dev }) =>
    dst === undefined || dst === "default" ? [] : [{ destination: dst, device: dev ?? "no device" }],
  );
}

/**
 * Has the kernel ignore IPv6 on a device: guests speak IPv4 only, and a host that forwards IPv6 would otherwise pass on
 * what a guest sends, past every IPv4 rule.
 */
export function disableIpv6(device: string): void {
  try {
    writeFileSync(`/proc/sys/net/ipv6/conf/${device}/disable_ipv6`, "1");
  } catch (thrown) {
    // A kernel without IPv6 has nothing to ignore.
    if (!isErrno(thrown, "ENOENT")) throw thrown;
  }
}

/** The device that packets to the world leave by. @throws BangerError NETWORK without a default route. */
export async function findUplink(): Promise<string> {
  const result = await tryTool("ip", ["-json", "-4", "route", "show", "default"], { timeoutMs: TIMEOUT_MS });
  const routes =
    result.exitCode === 0 ? v.parse(Routes, JSON.parse(new TextDecoder().decode(result.stdout) || "[]")) : [];
  const device = routes[0]?.dev;
  if (device === undefined)
    throw new BangerError("NETWORK", "this host has no default route, so there is no way out for guests");
  return device;
}

/** The device by which a packet of a guest with NAT, come in by that device, would leave; null when the kernel has no way for it. */
export async function findRouteOut(source: string, target: string, input: string): Promise<string | null> {
  const words = ["-json", "-4", "route", "get", target, "from", source, "iif", input, "mark", String(PACKET_MARKS.out)];
  const { exitCode, stdout } = await tryTool("ip", words, { timeoutMs: TIMEOUT_MS });
  if (exitCode !== 0) return null;
  return v.parse(Routes, JSON.parse(new TextDecoder().decode(stdout) || "[]"))[0]?.dev ?? null;
}
