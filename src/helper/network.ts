/** Interfaces and addresses, by `ip -json`. Source: ip(8). */

import { writeFileSync } from "node:fs";
import * as v from "valibot";
import { BangerError, isErrno } from "../shared/errors.ts";
import type { HostRoute, InterfaceFacts } from "./gates.ts";
import { runTool, tryTool } from "./run-tool.ts";

const TIMEOUT_MS = 10_000;

/** Runs `ip` with these words. */
export async function ip(...args: readonly string[]): Promise<void> {
  await runTool("ip", args, { timeoutMs: TIMEOUT_MS });
}

const Link = v.object({
  ifname: v.string(),
  master: v.optional(v.string()),
  address: v.optional(v.string()),
  operstate: v.optional(v.string()),
  linkinfo: v.optional(
    v.object({
      info_kind: v.optional(v.string()),
      info_data: v.optional(
        v.object({ type: v.optional(v.string()), user: v.optional(v.union([v.string(), v.number()])) }),
      ),
      info_slave_data: v.optional(v.object({ state: v.optional(v.string()) })),
    }),
  ),
});
/** `ip` prints an empty object for what its filter left out. */
const Links = v.array(v.union([Link, v.object({})]));
const Addresses = v.array(
  v.object({
    addr_info: v.optional(v.array(v.object({ local: v.optional(v.string()), prefixlen: v.optional(v.number()) }))),
  }),
);
const Routes = v.array(v.object({ dst: v.optional(v.string()), dev: v.optional(v.string()) }));

export interface Interface extends InterfaceFacts {
  /** Who may open a tap: a uid, as text, or a name where the host's users have one. */
  readonly user: string | null;
  readonly mac: string | null;
  /** Up, with a carrier. */
  readonly isUp: boolean;
  /** A bridge port's: `forwarding`, `disabled` …; null for what is no port. */
  readonly portState: string | null;
}

async function ask<S extends v.GenericSchema>(schema: S, args: readonly string[]): Promise<v.InferOutput<S>> {
  return v.parse(schema, JSON.parse((await runTool("ip", ["-json", ...args], { timeoutMs: TIMEOUT_MS })) || "[]"));
}

function describe(link: v.InferOutput<typeof Link>): Interface {
  const user = link.linkinfo?.info_data?.user;
  return {
    name: link.ifname,
    kind: link.linkinfo?.info_kind ?? null,
    tunType: link.linkinfo?.info_data?.type ?? null,
    master: link.master ?? null,
    user: user === undefined ? null : user === "root" ? "0" : String(user),
    mac: link.address ?? null,
    isUp: link.operstate === "UP",
    portState: link.linkinfo?.info_slave_data?.state ?? null,
  };
}

export async function listInterfaces(): Promise<readonly Interface[]> {
  const links = await ask(Links, ["-details", "link", "show"]);
  return links.flatMap((link) => ("ifname" in link ? [describe(link)] : []));
}

/** Null when there is no such interface. */
export async function readInterface(name: string): Promise<Interface | null> {
  const result = await tryTool("ip", ["-json", "-details", "link", "show", "dev", name], { timeoutMs: TIMEOUT_MS });
  if (result.exitCode !== 0) {
    if (/does not exist|Cannot find device/.test(result.stderr)) return null;
    throw new BangerError("FAILED", `ip link show ${name}: ${result.stderr.trim()}`);
  }
  const links = v.parse(Links, JSON.parse(new TextDecoder().decode(result.stdout)));
  const link = links.find((one) => "ifname" in one);
  return link === undefined ? null : describe(link as v.InferOutput<typeof Link>);
}

/** Names of a bridge's ports among interfaces. Pure. */
export function portsOf(bridge: string, links: readonly Interface[]): readonly string[] {
  return links.filter(({ master }) => master === bridge).map(({ name }) => name);
}

/** Names of a bridge's ports. */
export async function listPorts(bridge: string): Promise<readonly string[]> {
  return portsOf(bridge, await listInterfaces());
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

/** The device by which a packet of that source, come in by that device, would leave; null when the kernel has no way for it. */
export async function findRouteOut(source: string, target: string, input: string): Promise<string | null> {
  const words = ["-json", "-4", "route", "get", target, "from", source, "iif", input];
  const { exitCode, stdout } = await tryTool("ip", words, { timeoutMs: TIMEOUT_MS });
  if (exitCode !== 0) return null;
  return v.parse(Routes, JSON.parse(new TextDecoder().decode(stdout) || "[]"))[0]?.dev ?? null;
}
