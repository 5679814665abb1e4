/** IPv4 arithmetic of the guests' network. Pure. */

import { BangerError } from "../../../../shared/errors.ts";
import { poolTap } from "../../../../shared/host-names.ts";
import {
  formatIpv4,
  isLoopbackIpv4,
  overlaps,
  parseIpv4,
  type Subnet,
  subnetOf,
} from "../../../../shared/network/ipv4.ts";

/** The bridge's own address and the length of its network's prefix. */
export interface Network {
  readonly bridge: string;
  readonly ip: string;
  readonly prefix: number;
}

/** A network that the host has a route to. */
export interface Route extends Subnet {
  readonly device: string;
}

/** Ranges tried in this order when the configuration names none; /24 each. */
const CANDIDATES = ["172.16.0.1", "172.29.87.1", "10.213.87.1", "192.168.213.1", "10.87.213.1"] as const;

function addressOf(text: string): number {
  const address = parseIpv4(text);
  if (address === null) throw new BangerError("INTERNAL", `${text} is not an IPv4 address`);
  return address;
}

/** Dotted netmask of a prefix, as the kernel's ip= wants it. */
export function netmaskOf(prefix: number): string {
  return formatIpv4(2 ** 32 - 2 ** (32 - prefix));
}

/**
 * The lowest free address for a guest.
 * @throws BangerError IN_USE when every one is taken
 */
export function nextFreeAddress({ ip, prefix }: Network, taken: ReadonlySet<string>): string {
  const own = addressOf(ip);
  const { first, last } = subnetOf(own, prefix);
  for (let address = first + 1; address < last; address++) {
    const text = formatIpv4(address);
    if (address !== own && !taken.has(text)) return text;
  }
  throw new BangerError("IN_USE", `every address of ${ip}/${prefix} belongs to a VM`, { hint: "banger vm prune" });
}

/** The highest free address, which a VM would get last; null when every one is taken. */
export function lastFreeAddress({ ip, prefix }: Network, taken: ReadonlySet<string>): string | null {
  const own = addressOf(ip);
  const { first, last } = subnetOf(own, prefix);
  for (let address = last - 1; address > first; address--) {
    const text = formatIpv4(address);
    if (address !== own && !taken.has(text)) return text;
  }
  return null;
}

export function isInNetwork({ ip, prefix }: Network, address: string): boolean {
  const value = parseIpv4(address);
  const { first, last } = subnetOf(addressOf(ip), prefix);
  return value !== null && value > first && value < last && address !== ip;
}

/**
 * The tap of an address: the guest's number in its network. No two VMs have one address, so none shares a tap, and an
 * undo needs the VM's record only.
 */
export function tapOf({ ip, prefix }: Network, address: string): string {
  return poolTap(addressOf(address) - subnetOf(addressOf(ip), prefix).first);
}

/** Routes of /proc/net/route (proc(5)), the default one left out: it covers everything and collides with nothing. */
export function parseRoutes(table: string): readonly Route[] {
  return table
    .trim()
    .split("\n")
    .slice(1)
    .flatMap((line): Route[] => {
      const fields = line.split("\t");
      const [device, destination, mask] = [fields[0], fields[1], fields[7]];
      if (device === undefined || destination === undefined || mask === undefined) return [];
      const [to, netmask] = [destination, mask].map(readLittleEndian);
      if (to === undefined || netmask === undefined || to === null || netmask === null || netmask === 0) return [];
      return [{ device: device.trim(), first: to, last: to + (2 ** 32 - 1 - netmask) }];
    });
}

/** Host byte order, as the kernel prints it on the machines banger runs on. */
function readLittleEndian(hex: string): number | null {
  if (!/^[0-9A-Fa-f]{8}$/.test(hex)) return null;
  return Buffer.from(hex, "hex").readUInt32LE(0);
}

export function findCollision(network: Network, routes: readonly Route[]): Route | null {
  const own = subnetOf(addressOf(network.ip), network.prefix);
  return routes.find((route) => route.device !== network.bridge && overlaps(route, own)) ?? null;
}

export interface NetworkChoice {
  readonly network: Network;
  /** The route in the way of the first choice; null when nothing was. */
  readonly collision: Route | null;
}

/**
 * The guests' network: the one in use already, else the configured one, else the first that collides with no route.
 * @throws BangerError HOST_UNSUPPORTED when all collide
 */
export function chooseNetwork(wanted: {
  readonly bridge: string;
  /** Configured address; null when the configuration leaves it to banger. */
  readonly ip: string | null;
  readonly prefix: number;
  /** The bridge's address at the last choice; null when there was none. */
  readonly inUse: string | null;
  readonly routes: readonly Route[];
}): NetworkChoice {
  const { bridge, prefix, routes } = wanted;
  const as = (ip: string): Network => ({ bridge, ip, prefix });
  if (wanted.ip !== null) return { network: as(wanted.ip), collision: findCollision(as(wanted.ip), routes) };
  // Guests have addresses of the range in use: it stays, whatever route came later.
  if (wanted.inUse !== null) return { network: as(wanted.inUse), collision: findCollision(as(wanted.inUse), routes) };
  const free = CANDIDATES.map(as).find((network) => findCollision(network, routes) === null);
  if (free === undefined) {
    throw new BangerError(
      "HOST_UNSUPPORTED",
      `this host has routes to every range banger tries (${CANDIDATES.join(", ")})`,
      {
        hint: "set bridge_ip in /etc/banger/config.toml",
      },
    );
  }
  return { network: free, collision: findCollision(as(CANDIDATES[0]), routes) };
}

/** The host's own addresses, of /proc/net/fib_trie: the leaves that its local table delivers. */
export function parseLocalAddresses(trie: string): ReadonlySet<string> {
  return new Set([...trie.matchAll(/\|-- (\S+)\n\s+\/32 host LOCAL$/gm)].flatMap(([, address]) => address ?? []));
}

/**
 * A name server that a guest can reach, from resolv.conf(5) texts in order of preference: loopback ones answer to this host only, and
 * `own` are the host's own addresses, which are closed to guests.
 */
export function chooseNameServer(texts: readonly string[], own: ReadonlySet<string> = new Set()): string | null {
  for (const text of texts) {
    for (const line of text.split("\n")) {
      const server = /^\s*nameserver\s+(\S+)/.exec(line)?.[1];
      if (server === undefined) continue;
      if (!isLoopbackIpv4(server) && (parseIpv4(server) ?? 0) !== 0 && !own.has(server)) return server;
    }
  }
  return null;
}
