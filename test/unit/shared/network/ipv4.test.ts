import { expect, test } from "bun:test";
import fc from "fast-check";
import {
  contains,
  formatIpv4,
  isLoopbackIpv4,
  isPrivateIpv4,
  overlaps,
  parseIpv4,
  parseSubnet,
  subnetOf,
} from "../../../../src/shared/network/ipv4.ts";

test("an address survives text and back", () => {
  fc.assert(fc.property(fc.ipV4(), (text) => formatIpv4(parseIpv4(text) ?? -1) === text));
});

test.each(["", "1.2.3", "1.2.3.4.5", "1.2.3.256", "01.2.3.4", "1.2.3.4 ", "0x1.2.3.4", "1..3.4"])(
  "%p is no address",
  (text) => {
    expect(parseIpv4(text)).toBeNull();
    expect([isPrivateIpv4(text), isLoopbackIpv4(text)]).toEqual([false, false]);
  },
);

test("subnets hold their addresses, and overlap when they share one", () => {
  const subnet = fc.tuple(fc.nat(0xffff_ffff), fc.integer({ min: 0, max: 32 }));
  fc.assert(
    fc.property(subnet, subnet, ([a, p], [b, q]) => {
      const [first, second] = [subnetOf(a, p), subnetOf(b, q)];
      expect(contains(first, a)).toBe(true);
      expect(first.last - first.first + 1).toBe(2 ** (32 - p));
      // Two subnets of powers of two overlap only when one holds the other's first address.
      expect(overlaps(first, second)).toBe(contains(first, second.first) || contains(second, first.first));
    }),
  );
});

test.each(["1.2.3.4/33", "1.2.3.4/-1", "1.2.3.4/8/8", "1.2.3.4/", "1.2.3/8", "default", ""])(
  "%j is no subnet",
  (text) => expect(parseSubnet(text)).toBeNull(),
);

test.each([
  ["10.0.0.0", true, false],
  ["172.15.255.255", false, false],
  ["172.16.0.1", true, false],
  ["172.32.0.0", false, false],
  ["192.168.255.255", true, false],
  ["127.0.0.1", false, true],
  ["128.0.0.1", false, false],
] as const)("%s: private %p, loopback %p", (text, isPrivate, isLoopback) => {
  expect([isPrivateIpv4(text), isLoopbackIpv4(text)]).toEqual([isPrivate, isLoopback]);
});
