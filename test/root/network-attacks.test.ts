/**
 * Everything a guest's root can write into its tap: to get out without NAT, to send as another guest, to reach another
 * guest or the host, and to fill the host's tables. Three guests on the bridge, an outside network behind the uplink, a
 * neighbour on a LAN.
 */

import { afterAll, beforeAll, beforeEach, describe, expect, test } from "bun:test";
import { HELPER_VERSION } from "../../src/shared/contract/helper-api.ts";
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { createDispatch } from "../../src/helper/dispatch.ts";
import { GUEST_BOUNDS } from "../../src/shared/network/walls.ts";
import { macOf } from "../../src/shared/network/guest-mac.ts";
import { arp, BROADCAST, type Ends, fragment, ipv6, ping, sourceRouted, syn, tagged, udp } from "./frames.ts";
import { clearNetwork, type GuestTap, ip, iptables, makeHost, openGuestTap, run, type TestHost } from "./support.ts";

const WORLD = "198.51.100.1";
const HOST = { bridge: "172.16.0.1", uplink: "198.51.100.2", lan: "192.168.77.1" } as const;
const LAN_PEER = "192.168.77.9";
const PORT = 4242;
const MULTICAST_MAC = "01:00:5e:00:00:fb";
/** Without NAT, with NAT, without NAT. */
const ADDRESSES = { mallory: "172.16.0.2", nat: "172.16.0.3", other: "172.16.0.4" } as const;
type Name = keyof typeof ADDRESSES;
const tapName = (name: Name): string => `tap-pool-${ADDRESSES[name].split(".")[3]}`;
const NAT = { guest_ip: ADDRESSES.nat, tap: tapName("nat") };

let host: TestHost;
let taps: Readonly<Record<Name, GuestTap>>;
let gatewayMac: string;

async function call(method: string, params: unknown): Promise<unknown> {
  const { answer } = await createDispatch(host.context)({
    v: HELPER_VERSION,
    method: `priv.${method}`,
    params,
    op: null,
  });
  return "result" in answer ? answer.result : `${answer.error.code} ${answer.error.message}`;
}
const nft = (...words: readonly string[]): string => run("/usr/sbin/nft", ...words);
const inNamespace = (name: string, ...argv: readonly string[]): string => ip("netns", "exec", name, ...argv);

/** Makes a namespace that counts the attacks' datagrams, connected by a pair of interfaces. */
function joinNamespace(name: string, device: string, own: string, peer: string): void {
  ip("netns", "add", name);
  ip("link", "add", device, "type", "veth", "peer", "name", "eth0", "netns", name);
  ip("-n", name, "address", "add", `${peer}/24`, "dev", "eth0");
  ip("-n", name, "link", "set", "eth0", "up");
  ip("-n", name, "route", "add", "default", "via", own);
  ip("address", "add", `${own}/24`, "dev", device);
  ip("link", "set", device, "up");
  inNamespace(
    name,
    "/usr/sbin/nft",
    "add table inet seen; add counter inet seen hits;" +
      "add chain inet seen in { type filter hook prerouting priority -400; };" +
      `add rule inet seen in udp dport ${PORT} counter name hits`,
  );
}
function seenBy(name: string): number {
  const text = inNamespace(name, "/usr/sbin/nft", "list", "counter", "inet", "seen", "hits");
  return Number(/packets (\d+)/.exec(text)?.[1]);
}

/** Sends a datagram from a namespace. */
function sendFrom(name: string, target: string, port: number): void {
  const script = `const s = await Bun.udpSocket({ socket: { data() {}, error() {} } });
    s.send("x", ${port}, "${target}"); await Bun.sleep(20); s.close();`;
  inNamespace(name, process.execPath, "-e", script);
}

const from = (name: Name, change: Partial<Ends> = {}): Ends => ({
  sourceMac: macOf(ADDRESSES[name]),
  targetMac: gatewayMac,
  sourceIp: ADDRESSES[name],
  targetIp: WORLD,
  ...change,
});

let sequence = 0;
/** Whether the outside network answers that guest's ping. */
async function getsOut(name: Name): Promise<boolean> {
  const tap = taps[name];
  tap.receive();
  tap.send(ping(from(name), ++sequence));
  for (const deadline = Date.now() + 1000; Date.now() < deadline; await Bun.sleep(5)) {
    // Type 0: an echo reply.
    if (tap.receive().some((frame) => frame[23] === 1 && frame[34] === 0)) return true;
  }
  return false;
}

const setSwitch = (key: string, value: string): void => writeFileSync(`/proc/sys/net/${key}`, value);
const readSwitch = (key: string): string => readFileSync(`/proc/sys/net/${key}`, "utf8").trim();
const conntrackCount = (): number => Number(readSwitch("netfilter/nf_conntrack_count"));

const raise = async (): Promise<void> => {
  expect(await call("ensure_bridge", { bridge: "br-fc", ip: HOST.bridge, prefix: 24 })).toEqual({});
  expect(await call("ensure_nat", { ...NAT, enable: true })).toEqual({ uplink: "uplink0" });
};

beforeAll(async () => {
  host = makeHost();
  ip("link", "set", "lo", "up");
  setSwitch("ipv4/ip_forward", "0");
  joinNamespace("world", "uplink0", HOST.uplink, WORLD);
  joinNamespace("lan", "lan0", HOST.lan, LAN_PEER);
  ip("route", "add", "default", "via", WORLD);
  expect(await call("ensure_bridge", { bridge: "br-fc", ip: HOST.bridge, prefix: 24 })).toEqual({});
  for (const name of Object.keys(ADDRESSES) as Name[]) {
    expect(await call("create_tap", { tap: tapName(name), bridge: "br-fc", guest_ip: ADDRESSES[name] })).toEqual({});
  }
  await raise();
  taps = { mallory: openGuestTap("tap-pool-2"), nat: openGuestTap("tap-pool-3"), other: openGuestTap("tap-pool-4") };
  gatewayMac = readFileSync("/sys/class/net/br-fc/address", "utf8").trim();
  for (const deadline = Date.now() + 5000; Date.now() < deadline && !(await getsOut("nat")););
});
afterAll(() => {
  for (const tap of Object.values(taps)) tap[Symbol.dispose]();
  for (const name of ["world", "lan"]) ip("netns", "delete", name);
  clearNetwork();
  host[Symbol.dispose]();
});

/** Frames of a guest without NAT that try to get out. */
const WAYS_OUT: readonly (readonly [string, () => readonly Uint8Array[]])[] = [
  ["with its own address", () => [udp(from("mallory"), PORT)]],
  ["with the address of a guest with NAT", () => [udp(from("mallory", { sourceIp: ADDRESSES.nat }), PORT)]],
  ["with address and MAC of a guest with NAT", () => [udp(from("nat"), PORT)]],
  ["with both, tagged 802.1p with VLAN 0", () => [tagged(udp(from("nat"), PORT), [0x8100, 0])]],
  [
    "with that address and its own MAC, tagged 802.1p with VLAN 0",
    () => [tagged(udp(from("mallory", { sourceIp: ADDRESSES.nat }), PORT), [0x8100, 0])],
  ],
  ["with its own address, tagged 802.1p with VLAN 0", () => [tagged(udp(from("mallory"), PORT), [0x8100, 0])]],
  ["with both, tagged 802.1p with a priority", () => [tagged(udp(from("nat"), PORT), [0x8100, 0xe000])]],
  ["with both, tagged 802.1ad", () => [tagged(udp(from("nat"), PORT), [0x88a8, 0])]],
  [
    "with both, tagged twice",
    () => [
      tagged(udp(from("nat"), PORT), [0x88a8, 0], [0x8100, 0]),
      tagged(udp(from("nat"), PORT), [0x8100, 0], [0x8100, 0]),
    ],
  ],
  ["with both, on a VLAN", () => [tagged(udp(from("nat"), PORT), [0x8100, 5])]],
  [
    "in fragments",
    () => [
      fragment(udp(from("mallory"), PORT), 0, true),
      fragment(udp(from("nat"), PORT), 0, true),
      fragment(udp(from("nat"), PORT), 4, false),
    ],
  ],
  [
    "source-routed by the gateway",
    () => [
      sourceRouted(udp(from("nat"), PORT), HOST.bridge),
      sourceRouted(udp(from("mallory", { targetIp: HOST.bridge }), PORT), WORLD),
    ],
  ],
  ["to a broadcast MAC", () => [udp(from("mallory", { targetMac: BROADCAST }), PORT)]],
  ["with the host's own address", () => [udp(from("mallory", { sourceIp: HOST.uplink }), PORT)]],
  [
    "to the LAN",
    () => [udp(from("mallory", { targetIp: LAN_PEER }), PORT), udp(from("nat", { targetIp: LAN_PEER }), PORT)],
  ],
];

/** What other programs do to a host's firewall. `keepsNat`: whether a guest with NAT still gets out immediately. */
const HOSTS: readonly (readonly [string, keepsNat: boolean, () => void])[] = [
  ["as it is", true, () => undefined],
  [
    "whose iptables were flushed",
    true,
    () => {
      iptables("-F");
      iptables("-t", "nat", "-F");
      iptables("-X");
    },
  ],
  ["whose FORWARD drops, as Docker sets it", true, () => iptables("-P", "FORWARD", "DROP")],
  ["that forwards", true, () => setSwitch("ipv4/ip_forward", "1")],
  [
    "that filters by reverse path",
    true,
    () => {
      for (const device of ["all", "uplink0", "br-fc"]) setSwitch(`ipv4/conf/${device}/rp_filter`, "1");
    },
  ],
  ["whose whole nft ruleset was flushed", false, () => nft("flush", "ruleset")],
  [
    "that forwards, and whose whole nft ruleset was flushed",
    false,
    () => {
      setSwitch("ipv4/ip_forward", "1");
      nft("flush", "ruleset");
    },
  ],
  ["whose family inet was flushed", false, () => nft("flush", "ruleset", "inet")],
  ["whose family netdev was flushed", false, () => nft("flush", "ruleset", "netdev")],
  [
    "whose policy rules were flushed",
    true,
    () => {
      ip("rule", "flush");
      ip("rule", "add", "pref", "32766", "lookup", "main");
      ip("rule", "add", "pref", "32767", "lookup", "default");
    },
  ],
  [
    "with br_netfilter",
    true,
    () => {
      if (existsSync("/proc/sys/net/bridge/bridge-nf-call-iptables")) setSwitch("bridge/bridge-nf-call-iptables", "1");
      else console.error("skip: this kernel has no br_netfilter");
    },
  ],
  [
    "without br_netfilter",
    true,
    () => {
      if (existsSync("/proc/sys/net/bridge/bridge-nf-call-iptables")) setSwitch("bridge/bridge-nf-call-iptables", "0");
    },
  ],
];

describe.each(HOSTS)("on a host %s", (_, keepsNat, prepare) => {
  beforeAll(async () => {
    iptables("-P", "FORWARD", "ACCEPT");
    setSwitch("ipv4/ip_forward", "0");
    for (const device of ["all", "uplink0", "br-fc"]) setSwitch(`ipv4/conf/${device}/rp_filter`, "0");
    await raise();
    prepare();
  });

  test.each(WAYS_OUT)("a guest without NAT does not get out %s", (_way, frames) => {
    const before = [seenBy("world"), seenBy("lan")];
    for (const frame of frames()) taps.mallory.send(frame);
    expect([seenBy("world"), seenBy("lan")]).toEqual(before);
  });

  test("only the guest with NAT gets out, at once or after the next check", async () => {
    expect(await getsOut("nat")).toBe(keepsNat);
    await raise();
    expect(await getsOut("nat")).toBe(true);
    expect(await getsOut("mallory")).toBe(false);
  });
});

describe("another guest", () => {
  const toOther = (change: Partial<Ends> = {}): Ends =>
    from("mallory", { targetMac: macOf(ADDRESSES.other), targetIp: ADDRESSES.other, ...change });
  const WAYS: readonly (readonly [string, () => readonly Uint8Array[]])[] = [
    ["by its MAC", () => [udp(toOther(), PORT)]],
    ["by a broadcast", () => [udp(toOther({ targetMac: BROADCAST, targetIp: "172.16.0.255" }), PORT)]],
    ["by a multicast", () => [udp(toOther({ targetMac: MULTICAST_MAC, targetIp: "224.0.0.251" }), PORT)]],
    ["by the gateway", () => [udp(toOther({ targetMac: gatewayMac }), PORT)]],
    ["by an unknown MAC", () => [udp(toOther({ targetMac: "06:00:00:00:00:99" }), PORT)]],
    [
      "by ARP",
      () => [arp(toOther({ targetMac: BROADCAST }), { mac: macOf(ADDRESSES.mallory), ip: ADDRESSES.mallory })],
    ],
    ["by ARP as the gateway", () => [arp(toOther(), { mac: macOf(ADDRESSES.mallory), ip: HOST.bridge }, 2)]],
    ["tagged", () => [tagged(udp(toOther(), PORT), [0x8100, 0]), tagged(udp(toOther(), PORT), [0x88a8, 7])]],
    ["by IPv6", () => [ipv6({ sourceMac: macOf(ADDRESSES.mallory), targetMac: "33:33:00:00:00:01" })]],
  ];
  const SETTINGS: readonly (readonly [string, () => void])[] = [
    ["with all walls in place", () => undefined],
    ["after a flush of everything", () => nft("flush", "ruleset")],
    [
      "on a host that forwards, after a flush",
      () => {
        setSwitch("ipv4/ip_forward", "1");
        nft("flush", "ruleset");
      },
    ],
  ];
  const ATTACKS = SETTINGS.flatMap(([setting, prepare]) =>
    WAYS.map(([way, frames]) => [`${way} ${setting}`, prepare, frames] as const),
  );
  test.each(ATTACKS)("is not reached %s, whether or not the attacker has NAT", async (_, prepare, frames) => {
    setSwitch("ipv4/ip_forward", "0");
    await raise();
    prepare();
    taps.other.receive();
    for (const frame of frames()) taps.mallory.send(frame);
    for (const frame of frames()) {
      // The same frames from the guest with NAT, which may pass more.
      const own = frame.slice();
      own.set(
        macOf(ADDRESSES.nat)
          .split(":")
          .map((part) => Number.parseInt(part, 16)),
        6,
      );
      taps.nat.send(own);
    }
    taps.nat.send(udp(from("nat", { targetIp: ADDRESSES.other }), PORT));
    expect(taps.other.receive()).toEqual([]);
  });

  test("keeps its traffic when another guest claims its MAC or address", async () => {
    await raise();
    for (const target of [gatewayMac, BROADCAST]) {
      taps.mallory.send(udp(from("mallory", { sourceMac: macOf(ADDRESSES.other), targetMac: target }), PORT));
      taps.mallory.send(
        arp(
          from("mallory", { targetMac: target, targetIp: HOST.bridge }),
          { mac: macOf(ADDRESSES.mallory), ip: ADDRESSES.other },
          2,
        ),
      );
    }
    const socket = await Bun.udpSocket({ hostname: HOST.bridge, port: 0 });
    taps.other.receive();
    taps.mallory.receive();
    socket.send("for the other", 9, ADDRESSES.other);
    expect(taps.other.receive()).toHaveLength(1);
    expect(taps.mallory.receive()).toEqual([]);
    socket.close();
  });
});

describe("the host", () => {
  let heard: string[];
  let service: Bun.udp.Socket<"buffer">;
  let listener: Bun.TCPSocketListener;
  beforeAll(async () => {
    heard = [];
    service = await Bun.udpSocket({
      hostname: "0.0.0.0",
      port: PORT,
      socket: { data: (_, data, __, address) => void heard.push(`${address} ${data.toString().slice(0, 6)}`) },
    });
    listener = Bun.listen({ hostname: "0.0.0.0", port: PORT, socket: { data: () => undefined } });
  });
  afterAll(() => {
    service.close();
    listener.stop(true);
  });
  beforeEach(raise);
  /** When this has been read, so has everything sent before. */
  const barrier = async (): Promise<void> => {
    service.send("barrier", PORT, "127.0.0.1");
    for (const deadline = Date.now() + 2000; Date.now() < deadline && !heard.some((line) => line.includes("barrie"));)
      await Bun.sleep(2);
    heard = heard.filter((line) => !line.includes("barrie"));
  };

  test.each(["mallory", "nat"] as const)("is not reached by %s at any of its addresses", async (name) => {
    for (const targetIp of [...Object.values(HOST), "127.0.0.1", "255.255.255.255", "172.16.0.255", "224.0.0.1"]) {
      for (const targetMac of [gatewayMac, BROADCAST, MULTICAST_MAC])
        taps[name].send(udp(from(name, { targetIp, targetMac }), PORT));
      taps[name].send(tagged(udp(from(name, { targetIp }), PORT), [0x8100, 0]));
    }
    taps[name].receive();
    for (const targetIp of Object.values(HOST)) {
      taps[name].send(syn(from(name, { targetIp }), PORT, 50_000));
      taps[name].send(ping(from(name, { targetIp }), ++sequence));
      // Not even from a closed port: any kind of answer reveals something.
      taps[name].send(udp(from(name, { targetIp }), 9));
    }
    await barrier();
    expect(heard).toEqual([]);
    expect(taps[name].receive()).toEqual([]);
  });

  test("tells a guest no MAC address but the gateway's", () => {
    taps.mallory.receive();
    const own = { mac: macOf(ADDRESSES.mallory), ip: ADDRESSES.mallory };
    for (const targetIp of [HOST.lan, HOST.uplink, ADDRESSES.other])
      taps.mallory.send(arp(from("mallory", { targetMac: BROADCAST, targetIp }), own));
    expect(taps.mallory.receive()).toEqual([]);
    taps.mallory.send(arp(from("mallory", { targetMac: BROADCAST, targetIp: HOST.bridge }), own));
    expect(taps.mallory.receive()).toHaveLength(1);
  });

  test("gets answers to connections that it opened", async () => {
    taps.mallory.receive();
    service.send("question", 9, ADDRESSES.mallory);
    const [question] = taps.mallory.receive();
    expect(question).toBeDefined();
    taps.mallory.send(udp(from("mallory", { targetIp: HOST.bridge }), PORT, 9));
    await barrier();
    expect(heard).toEqual([`${ADDRESSES.mallory} banger`]);
    heard = [];
  });

  test("does not become a router for others because one guest has NAT", async () => {
    const route = async (): Promise<readonly number[]> => {
      const before = [seenBy("lan"), seenBy("world")];
      sendFrom("world", LAN_PEER, PORT);
      sendFrom("lan", WORLD, PORT);
      await getsOut("nat");
      return [seenBy("lan") - (before[0] ?? 0), seenBy("world") - (before[1] ?? 0)];
    };
    setSwitch("ipv4/ip_forward", "0");
    await raise();
    expect(readSwitch("ipv4/ip_forward")).toBe("0");
    expect(await getsOut("nat")).toBe(true);
    expect(await route()).toEqual([0, 0]);
    // A packet that another program's rule redirects is not ours to block.
    iptables(
      "-t",
      "nat",
      "-A",
      "PREROUTING",
      "-i",
      "uplink0",
      "-p",
      "udp",
      "-d",
      HOST.uplink,
      "--dport",
      "77",
      "-j",
      "DNAT",
      "--to",
      `${LAN_PEER}:${PORT}`,
    );
    const before = seenBy("lan");
    sendFrom("world", HOST.uplink, 77);
    await getsOut("nat");
    expect(seenBy("lan") - before).toBe(1);
    iptables("-t", "nat", "-F", "PREROUTING");
    // If someone makes the host a router, it is blocked only until the next check.
    setSwitch("ipv4/ip_forward", "1");
    await raise();
    expect(await route()).toEqual([1, 1]);
  });

  test("is as before once no guest has NAT", async () => {
    setSwitch("ipv4/ip_forward", "0");
    const switches = ["conf/uplink0/forwarding", "conf/br-fc/forwarding", "conf/uplink0/src_valid_mark"];
    await raise();
    expect(switches.map((key) => readSwitch(`ipv4/${key}`))).toEqual(["1", "1", "1"]);
    expect(await call("ensure_nat", { ...NAT, enable: false })).toEqual({ uplink: null });
    expect(switches.map((key) => readSwitch(`ipv4/${key}`))).toEqual(["0", "0", "0"]);
    expect(iptables("-S")).not.toContain("BANGER");
    // On a host that already forwards, nothing is turned off.
    setSwitch("ipv4/ip_forward", "1");
    await raise();
    await call("ensure_nat", { ...NAT, enable: false });
    expect(readSwitch("ipv4/conf/uplink0/forwarding")).toBe("1");
    await raise();
    expect(await getsOut("nat")).toBe(true);
  });
});

describe("a flood", () => {
  const COUNT = 6000;
  beforeEach(raise);
  const tableSize = (): number => run("/usr/sbin/bridge", "fdb", "show", "br", "br-fc").split("\n").length;
  const neighbours = (): number => ip("neighbour", "show").split("\n").length;
  const macs = (index: number): string =>
    `06:aa:00:00:${(index >> 8).toString(16).padStart(2, "0")}:${(index & 0xff).toString(16).padStart(2, "0")}`;

  test.each([false, true])("of MACs doesn't change the bridge's table; after a flush of everything: %p", (flushed) => {
    const before = tableSize();
    if (flushed) nft("flush", "ruleset");
    for (let index = 0; index < COUNT; index++) {
      const ends = from("mallory", { sourceMac: macs(index), targetMac: BROADCAST });
      taps.mallory.send(index % 2 === 0 ? udp(ends, PORT) : tagged(udp(ends, PORT), [0x8100, index % 4096]));
    }
    expect(tableSize()).toBe(before);
  });

  test("of ARP doesn't change the host's neighbours", () => {
    const before = neighbours();
    for (let index = 0; index < COUNT; index++) {
      const claimed = { mac: macs(index), ip: `172.16.${index >> 8}.${index & 0xff}` };
      taps.mallory.send(arp(from("mallory", { targetMac: BROADCAST, targetIp: HOST.bridge }), claimed));
      taps.mallory.send(
        arp(from("mallory", { sourceMac: claimed.mac, targetMac: BROADCAST, targetIp: HOST.bridge }), claimed),
      );
    }
    expect(neighbours()).toBe(before);
  });

  test("of connections without NAT leaves no trace", () => {
    const before = conntrackCount();
    for (let index = 0; index < COUNT; index++) {
      const targetIp = [HOST.bridge, HOST.lan, WORLD][index % 3] ?? WORLD;
      taps.mallory.send(syn(from("mallory", { targetIp }), 1 + index, 1024 + index));
      taps.mallory.send(udp(from("mallory", { targetIp }), 1 + index, 1024 + index));
    }
    expect(conntrackCount() - before).toBeLessThan(10);
  });

  test("of connections with NAT stays within its bound, and other guests' connections continue", async () => {
    run("/usr/sbin/nft", "flush", "set", "inet", "banger", "rates");
    const began = Date.now();
    const before = conntrackCount();
    for (let index = 0; index < COUNT; index++) taps.nat.send(udp(from("nat"), 1 + index, 1024 + index));
    const seconds = (Date.now() - began) / 1000 + 1;
    const { newConnectionsAtOnce, newConnectionsPerSecond, connections } = GUEST_BOUNDS;
    const bound = Math.min(connections, newConnectionsAtOnce + seconds * newConnectionsPerSecond);
    expect(conntrackCount() - before).toBeGreaterThan(newConnectionsAtOnce / 2);
    expect(conntrackCount() - before).toBeLessThanOrEqual(bound);
  });
});
