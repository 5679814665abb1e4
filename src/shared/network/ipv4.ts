/** IPv4 addresses and networks as numbers. Pure. */

export interface Subnet {
  /** First address, as a number. */
  readonly first: number;
  /** Last address, as a number. */
  readonly last: number;
}

/**
 * Parses an address into a number; null unless it is four decimal numbers from 0 to 255 without leading zeros
 * (inet_aton reads those as octal).
 */
export function parseIpv4(text: string): number | null {
  const match = /^(\d{1,3})\.(\d{1,3})\.(\d{1,3})\.(\d{1,3})$/.exec(text);
  if (match === null) return null;
  let value = 0;
  for (const part of match.slice(1)) {
    if (Number(part) > 255 || (part.length > 1 && part.startsWith("0"))) return null;
    value = value * 256 + Number(part);
  }
  return value;
}

/** Formats an address. */
export function formatIpv4(value: number): string {
  return [24, 16, 8, 0].map((shift) => (value >>> shift) & 0xff).join(".");
}

/** The subnet of that prefix length that contains the address. */
export function subnetOf(address: number, prefix: number): Subnet {
  const size = 2 ** (32 - prefix);
  const first = Math.floor(address / size) * size;
  return { first, last: first + size - 1 };
}

export function contains(subnet: Subnet, address: number): boolean {
  return address >= subnet.first && address <= subnet.last;
}

export function overlaps(a: Subnet, b: Subnet): boolean {
  return a.first <= b.last && b.first <= a.last;
}

/** Parses `a.b.c.d/n` or a bare address; null if it is neither. */
export function parseSubnet(text: string): Subnet | null {
  const [address = "", prefix = "32", ...more] = text.split("/");
  const value = parseIpv4(address);
  if (value === null || more.length > 0 || !/^\d{1,2}$/.test(prefix) || Number(prefix) > 32) return null;
  return subnetOf(value, Number(prefix));
}

const block = (first: string, prefix: number): Subnet => subnetOf(parseIpv4(first) ?? 0, prefix);

/** The private ranges of RFC 1918. */
export const PRIVATE_BLOCKS: readonly Subnet[] = [
  block("10.0.0.0", 8),
  block("172.16.0.0", 12),
  block("192.168.0.0", 16),
];

/** The loopback block (RFC 1122): 127.0.0.0/8. */
export const LOOPBACK_BLOCK: Subnet = block("127.0.0.0", 8);

/** True if the text is an address in one of {@link PRIVATE_BLOCKS}. */
export function isPrivateIpv4(text: string): boolean {
  const address = parseIpv4(text);
  return address !== null && PRIVATE_BLOCKS.some((subnet) => contains(subnet, address));
}

/** True if the text is a loopback address. */
export function isLoopbackIpv4(text: string): boolean {
  const address = parseIpv4(text);
  return address !== null && contains(LOOPBACK_BLOCK, address);
}
