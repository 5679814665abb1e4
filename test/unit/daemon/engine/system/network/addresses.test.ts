import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import {
  chooseNameServer,
  chooseNetwork,
  findCollision,
  isInNetwork,
  netmaskOf,
  nextFreeAddress,
  parseLocalAddresses,
  parseRoutes,
  tapOf,
} from "../../../../../../src/daemon/engine/system/network/addresses.ts";
import { formatIpv4, parseIpv4, subnetOf } from "../../../../../../src/shared/network/ipv4.ts";

const network = { bridge: "br-fc", ip: "172.16.0.1", prefix: 24 };

// As Linux prints it: default, br-fc, docker0.
const ROUTES = `Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT
eth0\t00000000\t0202000A\t0003\t0\t0\t0\t00000000\t0\t0\t0
br-fc\t000010AC\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0
docker0\t000011AC\t00000000\t0001\t0\t0\t0\t0000FFFF\t0\t0\t0
`;

test("guests from .2, never the bridge's own, never one twice", () => {
  expect(nextFreeAddress(network, new Set())).toBe("172.16.0.2");
  expect(nextFreeAddress(network, new Set(["172.16.0.2", "172.16.0.4"]))).toBe("172.16.0.3");
  expect(nextFreeAddress({ ...network, ip: "172.16.0.2" }, new Set())).toBe("172.16.0.1");
  const taken = new Set<string>();
  for (let guest = 0; guest < 253; guest++) taken.add(nextFreeAddress(network, taken));
  expect(taken.size).toBe(253);
  expect(() => nextFreeAddress(network, taken)).toThrow("every address");
});

test("an address' range, netmask and tap", () => {
  expect(subnetOf(parseIpv4("10.1.2.3") ?? 0, 8)).toEqual({
    first: parseIpv4("10.0.0.0") ?? 0,
    last: parseIpv4("10.255.255.255") ?? 0,
  });
  expect(netmaskOf(24)).toBe("255.255.255.0");
  expect(netmaskOf(9)).toBe("255.128.0.0");
  expect(tapOf(network, "172.16.0.2")).toBe("tap-pool-2");
  expect(tapOf({ ...network, prefix: 16 }, "172.16.3.1")).toBe("tap-pool-769");
});

test("which addresses are guests'", () => {
  expect(isInNetwork(network, "172.16.0.9")).toBe(true);
  for (const other of ["172.16.0.0", "172.16.0.1", "172.16.0.255", "172.16.1.2", "x"])
    expect(isInNetwork(network, other)).toBe(false);
});

test("routes as the kernel prints them", () => {
  expect(parseRoutes(ROUTES).map(({ device, first, last }) => [device, formatIpv4(first), formatIpv4(last)])).toEqual([
    ["br-fc", "172.16.0.0", "172.16.0.255"],
    ["docker0", "172.17.0.0", "172.17.255.255"],
  ]);
  expect(parseRoutes("")).toEqual([]);
  fc.assert(fc.property(fc.string(), (text) => Array.isArray(parseRoutes(text))));
});

describe("the choice of a network", () => {
  const wanted = { bridge: "br-fc", ip: null, prefix: 24, inUse: null, routes: parseRoutes(ROUTES) };
  const blocked = [{ device: "tun0", ...subnetOf(parseIpv4("172.16.0.0") ?? 0, 12) }];
  test("the default where nothing collides; its own bridge's route is no collision", () => {
    expect(chooseNetwork(wanted)).toEqual({ network, collision: null });
  });
  test("another one where a VPN has it, saying which", () => {
    const { network: chosen, collision } = chooseNetwork({ ...wanted, routes: blocked });
    expect(findCollision(chosen, blocked)).toBeNull();
    expect(collision?.device).toBe("tun0");
  });
  test("the one in use stays", () => {
    expect(chooseNetwork({ ...wanted, inUse: "10.213.87.1", routes: blocked }).network.ip).toBe("10.213.87.1");
  });
  test("what is configured is taken, with the collision named", () => {
    const chosen = chooseNetwork({ ...wanted, ip: "172.16.4.1", routes: blocked });
    expect([chosen.network.ip, chosen.collision?.device]).toEqual(["172.16.4.1", "tun0"]);
  });
  test("refused when all collide", () => {
    expect(() => chooseNetwork({ ...wanted, routes: [{ device: "x", first: 0, last: 2 ** 32 - 1 }] })).toThrow(
      "every range",
    );
  });
});

test("a name server that guests can reach", () => {
  expect(chooseNameServer(["nameserver 127.0.0.53\n", "# x\nnameserver 10.0.2.3\n"])).toBe("10.0.2.3");
  expect(chooseNameServer(["nameserver fe80::1\n nameserver\t9.9.9.9\n"])).toBe("9.9.9.9");
  expect(chooseNameServer(["", "options edns0"])).toBeNull();
});

test("the host's own addresses are closed to guests, so none of them is a guest's name server", () => {
  const trie = `Main:
  +-- 0.0.0.0/0 3 0 5
     |-- 0.0.0.0
        /0 universe UNICAST
           |-- 192.168.1.0
              /24 link UNICAST
           |-- 192.168.1.5
              /32 host LOCAL
           |-- 192.168.1.255
              /32 link BROADCAST
`;
  const own = parseLocalAddresses(trie);
  expect([...own]).toEqual(["192.168.1.5"]);
  expect(chooseNameServer(["nameserver 192.168.1.5\nnameserver 192.168.1.1\n"], own)).toBe("192.168.1.1");
});
