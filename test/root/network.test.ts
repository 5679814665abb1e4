/** Runs in the tests' own network namespace: see run.ts. */

import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { existsSync, readFileSync } from "node:fs";
import { createDispatch } from "../../src/helper/dispatch.ts";
import { HELPER_VERSION } from "../../src/shared/contract/helper-api.ts";
import { readInterface } from "../../src/helper/network/interfaces.ts";
import { giveTap } from "../../src/helper/sys/taps.ts";
import { BRIDGE_ALIAS, tapAlias } from "../../src/shared/network/walls.ts";
import {
  clearNetwork,
  ip,
  iptables,
  makeHost,
  outputAs,
  OWNER,
  run,
  runAs,
  STRANGER,
  type TestHost,
  uidOf,
} from "./support.ts";

/** An interface that is neither a bridge nor a tap: one end of a veth pair. */
let pairs = 0;
function addInterface(name: string): void {
  const peer = `peer${pairs++}`;
  ip("link", "add", name, "type", "veth", "peer", "name", peer);
  ip("link", "set", peer, "up");
}
const ebtables = (...args: readonly string[]): string => run("/usr/sbin/ebtables", ...args);

let host: TestHost;
const dispatchOf = (): ReturnType<typeof createDispatch> => createDispatch(host.context);
/** Returns the result or the error's code. */
async function call(method: string, params: unknown): Promise<unknown> {
  const { answer } = await dispatchOf()({ v: HELPER_VERSION, method, params, op: null });
  return "result" in answer ? answer.result : answer.error.code;
}
const lab = { bridge: "br-fc", ip: "172.16.0.1", prefix: 24 };
const firstTap = { tap: "tap-pool-1", bridge: "br-fc", guest_ip: "172.16.0.2" };
const nft = (...args: readonly string[]): string => run("/usr/sbin/nft", ...args);
/** Lists our rules without their counters. */
const ownRules = (): string => nft("--stateless", "list", "ruleset");

function readSwitch(name: string): string {
  const file = `/proc/sys/net/ipv4/conf/${name}/forwarding`;
  return existsSync(file) ? `${name} ${readFileSync(file, "utf8")}` : "";
}

/** Everything in the network that an attack could change. */
function snapshot(): string {
  const links = JSON.parse(ip("-json", "-details", "link", "show")) as readonly {
    readonly ifname: string;
    readonly flags: readonly string[];
    readonly master?: string;
    readonly linkinfo?: { readonly info_kind?: string; readonly info_data?: { readonly user?: string } };
  }[];
  return [
    ...links.map(({ ifname, flags, master, linkinfo }) =>
      [ifname, flags.includes("UP"), master, linkinfo?.info_kind, linkinfo?.info_data?.user].join(" "),
    ),
    ip("-4", "-brief", "address", "show").replaceAll(/ +(UP|DOWN|UNKNOWN) +/g, " "),
    ip("-4", "route", "show", "table", "all").replaceAll(" linkdown", ""),
    iptables("-S"),
    iptables("-t", "nat", "-S"),
    ebtables("-L"),
    ip("rule", "show"),
    ip("neighbour", "show", "nud", "permanent"),
    // iptables has its own tables there, which it creates on first use.
    ownRules()
      .replaceAll(/^table (?:ip|bridge) [\s\S]*?^}$/gm, "")
      .trim(),
    ...["br-fc", "uplink0", "uplink1"].map((name) => readSwitch(name)),
  ].join("\n");
}

beforeEach(() => {
  host = makeHost();
  // An uplink, and interfaces that look like banger's.
  ip("link", "set", "lo", "up");
  addInterface("uplink0");
  ip("address", "add", "192.0.2.2/24", "dev", "uplink0");
  ip("link", "set", "uplink0", "up");
  ip("route", "add", "default", "via", "192.0.2.1");
});
afterEach(async () => {
  clearNetwork();
  host[Symbol.dispose]();
});

describe("the bridge", () => {
  test("is made once, with its address and walls, and changes nothing else", async () => {
    iptables("-P", "FORWARD", "DROP");
    const before = iptables("-S");
    expect(await call("priv.ensure_bridge", lab)).toEqual({});
    const first = snapshot();
    expect(await call("priv.ensure_bridge", lab)).toEqual({});
    expect(snapshot()).toBe(first);
    expect(ip("-brief", "address", "show", "br-fc").trim()).toMatch(/^br-fc +\S+ +172\.16\.0\.1\/24$/);
    expect(iptables("-S")).toBe(before);
    expect(readInterface("br-fc")).toMatchObject({ alias: BRIDGE_ALIAS, mac: "06:00:ac:10:00:01" });
    expect(ip("rule", "show")).toMatch(/^4202:\s+from all iif br-fc prohibit/m);
    // Whatever another program removes comes back.
    nft("flush", "ruleset");
    for (const preference of ["4201", "4202", "4203"]) ip("rule", "delete", "pref", preference);
    await call("priv.ensure_bridge", lab);
    iptables("-P", "FORWARD", "DROP");
    expect(snapshot()).toBe(first);
  });

  test("comes back after it was taken down, with its guests still attached", async () => {
    await call("priv.ensure_bridge", lab);
    await call("priv.create_tap", firstTap);
    ip("link", "set", "br-fc", "down");
    expect(ip("neighbour", "show", "nud", "permanent")).toBe("");
    expect(await call("priv.ensure_bridge", lab)).toEqual({});
    expect(ip("neighbour", "show", "nud", "permanent")).toContain("172.16.0.2 dev br-fc lladdr 06:00:ac:10:00:02");
    expect(run("/usr/sbin/bridge", "fdb", "show", "br", "br-fc")).toMatch(
      /^06:00:ac:10:00:02 dev tap-pool-1 .*static/m,
    );
  });

  test("is one of at most a few", async () => {
    for (const [index, name] of ["br-fc", "br-fc-b", "br-fc-c", "br-fc-d"].entries())
      expect(await call("priv.ensure_bridge", { bridge: name, ip: `172.16.${index}.1`, prefix: 24 })).toEqual({});
    const before = snapshot();
    expect(await call("priv.ensure_bridge", { bridge: "br-fc-e", ip: "172.16.9.1", prefix: 24 })).toBe(
      "HELPER_REFUSED",
    );
    expect(snapshot()).toBe(before);
    expect(await call("priv.ensure_bridge", { bridge: "br-fc-b", ip: "172.16.1.1", prefix: 24 })).toEqual({});
  });

  test("keeps its MAC address when ports are added", async () => {
    await call("priv.ensure_bridge", lab);
    const { mac } = readInterface("br-fc") ?? {};
    await call("priv.create_tap", firstTap);
    ip("link", "set", "tap-pool-1", "address", "02:00:00:00:00:01");
    expect(readInterface("br-fc")?.mac).toBe(mac as string);
  });

  test("takes another address only while nothing uses it", async () => {
    await call("priv.ensure_bridge", lab);
    expect(await call("priv.ensure_bridge", { ...lab, ip: "172.20.0.1" })).toEqual({});
    await call("priv.create_tap", { ...firstTap, guest_ip: "172.20.0.2" });
    expect(await call("priv.ensure_bridge", lab)).toBe("IN_USE");
  });

  test.each([
    ["eth0 upped", { ...lab, bridge: "uplink0" }],
    ["lo re-addressed", { ...lab, bridge: "lo" }],
    ["a dummy with a bridge's name", { ...lab, bridge: "br-fc-dummy" }],
    ["a bridge with such a name that somebody uses", { ...lab, bridge: "br-fc-used", ip: "172.21.0.1" }],
    ["a bridge that holds the uplink", { ...lab, bridge: "br-fc-lan" }],
    ["the uplink's own subnet", { ...lab, ip: "192.168.7.5", prefix: 24 }],
    ["one address of the LAN's", { ...lab, ip: "192.168.7.1", prefix: 32 }],
    ["a subnet around the LAN's", { ...lab, ip: "192.168.0.1", prefix: 16 }],
    ["a public subnet", { ...lab, ip: "192.0.2.9" }],
  ])("%s is refused and changes nothing", async (_, params) => {
    addInterface("br-fc-dummy");
    ip("link", "add", "br-fc-used", "type", "bridge");
    ip("address", "add", "172.21.0.1/24", "dev", "br-fc-used");
    ip("link", "add", "br-fc-lan", "type", "bridge");
    addInterface("lan0");
    ip("link", "set", "lan0", "up", "master", "br-fc-lan");
    ip("address", "add", "192.168.7.2/24", "dev", "uplink0");
    const before = snapshot();
    expect(await call("priv.ensure_bridge", params)).toBe("HELPER_REFUSED");
    expect(snapshot()).toBe(before);
  });
});

/** Opens a tap as that user. Returns the error's code, or `opened`. */
const OPEN_TAP = `const { dlopen, FFIType, ptr, read } = require("bun:ffi");
  const fs = require("node:fs");
  const c = dlopen("libc.so.6", { ioctl: { args: ["i32", "u64", "ptr"], returns: "i32" }, __errno_location: { args: [], returns: "ptr" } }).symbols;
  const fd = fs.openSync(process.argv[2], "r+");
  const request = new Uint8Array(40);
  request.set(new TextEncoder().encode(process.argv[1]));
  new DataView(request.buffer).setUint16(16, 0x5002, true);
  const [r, e] = [c.ioctl(fd, 0x400454can, ptr(request)), read.i32(c.__errno_location(), 0)];
  console.log(r === 0 ? "opened" : e === 1 ? "EPERM" : "errno " + e);`;

/** A node of the tun device that every user may open, as distributions ship it. */
function tunNode(): string {
  const node = `${host.treasure}/tun`;
  if (!existsSync(node)) {
    run("mknod", node, "c", "10", "200");
    run("chmod", "666", node);
  }
  return node;
}
const openTapAs = async (uid: number, tap: string): Promise<string> => await outputAs(uid, OPEN_TAP, [tap, tunNode()]);

describe("taps", () => {
  test("belong to root until they are handed over, then to that uid", async () => {
    const uid = uidOf(host);
    await call("priv.ensure_bridge", lab);
    expect(await call("priv.create_tap", firstTap)).toEqual({});
    expect(await call("priv.create_tap", firstTap)).toEqual({});
    expect(ip("-6", "address", "show", "dev", "tap-pool-1")).toBe("");
    expect(readInterface("tap-pool-1")).toMatchObject({ kind: "tun", tunType: "tap", master: "br-fc" });
    for (const who of [OWNER, uid]) expect(await openTapAs(who, "tap-pool-1")).toBe("EPERM");
    giveTap("tap-pool-1", uid);
    expect(await openTapAs(uid, "tap-pool-1")).toBe("opened");
    for (const who of [OWNER, uid + 1]) expect(await openTapAs(who, "tap-pool-1")).toBe("EPERM");
    // The inventory shows whose it is, and releasing the VM has to wait for it.
    expect(await call("priv.inventory", {})).toMatchObject({
      taps: [{ tap: "tap-pool-1", uid }],
      bridges: ["br-fc"],
      walls: ["nft table inet banger", "nft table netdev banger", "ip rule 4201", "ip rule 4202", "ip rule 4203"],
    });
    expect(await call("priv.release_vm", { vm: "0123456789ab" })).toBe("IN_USE");
    // Back to the pool.
    expect(await call("priv.create_tap", firstTap)).toEqual({});
    expect(await openTapAs(uid, "tap-pool-1")).toBe("EPERM");
    expect(await call("priv.release_vm", { vm: "0123456789ab" })).toEqual({});
    expect(await call("priv.delete_tap", { tap: "tap-pool-1" })).toEqual({});
    expect(await call("priv.delete_tap", { tap: "tap-pool-1" })).toEqual({});
    expect(readInterface("tap-pool-1")).toBeNull();
    // Nor do its walls remain, which would apply to a later tap of the same name.
    expect(ownRules()).not.toContain("tap-pool-1");
    expect(ip("neighbour", "show", "nud", "permanent")).toBe("");
  });

  test("have their walls before anyone can open them, or are not made", async () => {
    await call("priv.ensure_bridge", lab);
    // Another rule refers to a chain of that name, so nft rejects the wall.
    nft("add", "table", "netdev", "banger");
    nft("add", "chain", "netdev", "banger", "tap-pool-1");
    nft("add", "chain", "netdev", "banger", "other");
    nft("add", "rule", "netdev", "banger", "other", "jump", "tap-pool-1");
    expect(await call("priv.create_tap", firstTap)).toBe("FAILED");
    expect(readInterface("tap-pool-1")).toBeNull();
  });

  test("serve one address each", async () => {
    await call("priv.ensure_bridge", lab);
    await call("priv.create_tap", firstTap);
    expect(await call("priv.create_tap", { ...firstTap, tap: "tap-pool-7" })).toBe("IN_USE");
    for (const guest_ip of ["172.16.0.1", "172.17.0.9", "10.0.0.1"])
      expect(await call("priv.create_tap", { ...firstTap, tap: "tap-pool-7", guest_ip })).toBe("HELPER_REFUSED");
    expect(await call("priv.create_tap", { ...firstTap, guest_ip: "172.16.0.9" })).toEqual({});
    expect(readInterface("tap-pool-1")?.alias).toBe(tapAlias("172.16.0.9"));
    expect(ip("neighbour", "show", "nud", "permanent")).toMatch(/^172\.16\.0\.9 dev br-fc lladdr 06:00:ac:10:00:09/);
  });

  test("that don't exist are not made by handing them over", async () => {
    expect(() => giveTap("tap-pool-5", 0)).toThrow("tap-pool-5 is not a banger tap");
    expect(readInterface("tap-pool-5")).toBeNull();
    ip("tuntap", "add", "dev", "tap-pool-5", "mode", "tap", "user", "0");
    expect(() => giveTap("tap-pool-5", OWNER)).toThrow("tap-pool-5 is not a banger tap");
    expect(readInterface("tap-pool-5")?.uid).toBe(0);
  });

  test("in use are neither deleted nor replaced", async () => {
    await call("priv.ensure_bridge", lab);
    await call("priv.create_tap", firstTap);
    const holder = Bun.spawn(
      [
        process.execPath,
        "-e",
        `${OPEN_TAP}; await new Promise((r) => setTimeout(r, 60_000));`,
        "tap-pool-1",
        tunNode(),
      ],
      {
        stdout: "pipe",
      },
    );
    const reader = holder.stdout.getReader();
    await reader.read();
    expect(await call("priv.delete_tap", { tap: "tap-pool-1" })).toBe("IN_USE");
    expect(await call("priv.create_tap", firstTap)).toBe("IN_USE");
    holder.kill("SIGKILL");
    await holder.exited;
    expect(await call("priv.delete_tap", { tap: "tap-pool-1" })).toEqual({});
  });

  test("that a VMM gave to an accomplice are taken back", async () => {
    await call("priv.ensure_bridge", lab);
    await call("priv.create_tap", firstTap);
    const uid = uidOf(host);
    giveTap("tap-pool-1", uid);
    // A process that has a tap open may give it away (TUNSETOWNER).
    const GIVE = `${OPEN_TAP}; c.ioctl(fd, 0x400454ccn, Number(process.argv[3]));`;
    expect(await outputAs(uid, GIVE, ["tap-pool-1", tunNode(), String(STRANGER)])).toBe("opened");
    expect(readInterface("tap-pool-1")?.uid).toBe(STRANGER);
    await using accomplice = runAs(STRANGER, `${OPEN_TAP}; await new Promise((r) => setTimeout(r, 60_000));`, [
      "tap-pool-1",
      tunNode(),
    ]);
    for (const deadline = Date.now() + 5000; Date.now() < deadline && readInterface("tap-pool-1")?.isUp !== true;)
      await Bun.sleep(10);
    expect(readInterface("tap-pool-1")?.isUp).toBe(true);
    expect(await call("priv.delete_tap", { tap: "tap-pool-1" })).toEqual({});
    expect(readInterface("tap-pool-1")).toBeNull();
    expect(await call("priv.create_tap", firstTap)).toEqual({});
    expect(accomplice).toBeDefined();
  });

  test("of other programs, and interfaces only named like one, are left alone", async () => {
    await call("priv.ensure_bridge", lab);
    addInterface("tap-pool-2");
    ip("link", "add", "br-lan", "type", "bridge");
    ip("tuntap", "add", "dev", "tap-pool-3", "mode", "tap", "user", "0");
    ip("link", "set", "tap-pool-3", "master", "br-lan");
    ip("tuntap", "add", "dev", "tap-pool-4", "mode", "tun", "user", "0");
    ip("tuntap", "add", "dev", "tap0", "mode", "tap", "user", "0");
    // A tap exactly like banger's, except for the mark.
    ip("tuntap", "add", "dev", "tap-pool-5", "mode", "tap", "user", "0");
    const before = snapshot();
    for (const tap of ["tap-pool-5", "tap-pool-2", "tap-pool-3", "tap-pool-4", "tap0", "uplink0", "lo"]) {
      expect(await call("priv.delete_tap", { tap })).toBe("HELPER_REFUSED");
      expect(await call("priv.create_tap", { ...firstTap, tap })).toBe("HELPER_REFUSED");
    }
    for (const bridge of ["br-lan", "uplink0", "lo"]) {
      expect(await call("priv.create_tap", { ...firstTap, tap: "tap-pool-9", bridge })).toBe("HELPER_REFUSED");
    }
    expect(await call("priv.create_tap", { ...firstTap, tap: "tap-pool-9", bridge: "br-fc-none" })).toBe("FAILED");
    // What is listed is what gc and uninstall take away.
    ip("link", "add", "br-fc-lan", "type", "bridge");
    expect(await call("priv.inventory", {})).toMatchObject({ taps: [], bridges: ["br-fc"] });
    ip("link", "delete", "br-fc-lan");
    expect(snapshot()).toBe(before);
  });
});

describe("NAT", () => {
  const guest = { guest_ip: "172.16.0.2", tap: "tap-pool-1" };
  beforeEach(async () => {
    await call("priv.ensure_bridge", lab);
    await call("priv.create_tap", firstTap);
  });

  test("is added once, restored after a flush, moved with the uplink, and removed without a trace", async () => {
    const before = snapshot();
    expect(await call("priv.ensure_nat", { ...guest, enable: true })).toEqual({ uplink: "uplink0" });
    const once = snapshot();
    await call("priv.ensure_nat", { ...guest, enable: true });
    expect(snapshot()).toBe(once);
    expect(nft("list", "set", "inet", "banger", "guests")).toContain('172.16.0.2 comment "tap-pool-1"');
    expect(nft("list", "set", "inet", "banger", "uplinks")).toContain('"uplink0"');
    const chain = iptables("-S", "BANGER-FORWARD").trim().split("\n").slice(1);
    expect(chain.map((rule) => rule.split(" ").at(-1))).toEqual(["ACCEPT", "ACCEPT"]);
    expect(iptables("-S", "FORWARD").split("\n")[1]).toBe("-A FORWARD -j BANGER-FORWARD");

    // As a firewall reload does, with another program's rule now first.
    iptables("-F");
    iptables("-t", "nat", "-F");
    iptables("-X", "BANGER-FORWARD");
    await call("priv.ensure_nat", { ...guest, enable: true });
    expect(snapshot()).toBe(once);
    iptables("-I", "FORWARD", "1", "-j", "DROP");
    await call("priv.ensure_nat", { ...guest, enable: true });
    expect(iptables("-S", "FORWARD").split("\n")[1]).toBe("-A FORWARD -j BANGER-FORWARD");
    expect(iptables("-S", "FORWARD").match(/BANGER-FORWARD/g)).toHaveLength(1);
    iptables("-D", "FORWARD", "-j", "DROP");

    addInterface("uplink1");
    ip("address", "add", "198.51.100.2/24", "dev", "uplink1");
    ip("link", "set", "uplink1", "up");
    ip("route", "replace", "default", "via", "198.51.100.1");
    expect(await call("priv.ensure_nat", { ...guest, enable: true })).toEqual({ uplink: "uplink1" });
    expect(ownRules()).not.toContain("uplink0");
    expect(readSwitch("uplink0")).toBe("uplink0 0\n");
    expect(readSwitch("uplink1")).toBe("uplink1 1\n");
    ip("route", "replace", "default", "via", "192.0.2.1");
    ip("link", "delete", "uplink1");

    await call("priv.ensure_nat", { ...guest, enable: true });
    expect(await call("priv.inventory", {})).toMatchObject({
      nat_rules: [guest],
      walls: expect.arrayContaining(["iptables chain BANGER-FORWARD", "sysctl net/ipv4/conf/uplink0/forwarding"]),
    });
    expect(await call("priv.ensure_nat", { ...guest, enable: false })).toEqual({ uplink: null });
    await call("priv.ensure_nat", { ...guest, enable: false });
    expect(snapshot()).toBe(before);
  });

  test("of one guest changes neither another's nor the host's own rules", async () => {
    iptables("-t", "nat", "-A", "POSTROUTING", "-s", "172.16.0.2/32", "-o", "uplink0", "-j", "MASQUERADE");
    iptables("-A", "FORWARD", "-s", "172.16.0.2/32", "-j", "ACCEPT");
    await call("priv.create_tap", { tap: "tap-pool-10", bridge: "br-fc", guest_ip: "172.16.0.22" });
    const other = { guest_ip: "172.16.0.22", tap: "tap-pool-10" };
    await call("priv.ensure_nat", { ...other, enable: true });
    const before = snapshot();
    await call("priv.ensure_nat", { ...guest, enable: true });
    await call("priv.ensure_nat", { ...guest, enable: false });
    expect(snapshot()).toBe(before);
    await call("priv.ensure_nat", { ...other, tap: "tap-pool-1", enable: false });
    expect(snapshot()).toBe(before);
  });

  test.each([
    ["an arbitrary private host", { guest_ip: "10.9.9.9", tap: "tap-pool-1" }, "HELPER_REFUSED"],
    ["a public host", { guest_ip: "198.51.100.7", tap: "tap-pool-1" }, "HELPER_REFUSED"],
    ["the bridge itself", { guest_ip: "172.16.0.1", tap: "tap-pool-1" }, "HELPER_REFUSED"],
    ["a whole network", { guest_ip: "0.0.0.0/0", tap: "tap-pool-1" }, "INVALID_REQUEST"],
    ["words of iptables", { guest_ip: "-j", tap: "tap-pool-1" }, "INVALID_REQUEST"],
    ["a foreign interface", { guest_ip: "172.16.0.2", tap: "uplink0" }, "HELPER_REFUSED"],
    ["a tap on no bridge", { guest_ip: "172.16.0.2", tap: "tap-pool-5" }, "HELPER_REFUSED"],
    ["an address that the tap wasn't made for", { guest_ip: "172.16.0.3", tap: "tap-pool-1" }, "HELPER_REFUSED"],
  ])("for %s is refused and changes nothing", async (_, params, code) => {
    ip("tuntap", "add", "dev", "tap-pool-5", "mode", "tap", "user", "0");
    ip("link", "set", "tap-pool-5", "alias", tapAlias("172.16.0.2"));
    const before = snapshot();
    expect(await call("priv.ensure_nat", { ...params, enable: true })).toBe(code);
    expect(snapshot()).toBe(before);
  });

  test("ends with its tap, and doesn't return with the next tap of that name", async () => {
    await call("priv.ensure_nat", { ...guest, enable: true });
    await call("priv.delete_tap", { tap: "tap-pool-1" });
    expect(await call("priv.inventory", {})).toMatchObject({ taps: [], nat_rules: [] });
    await call("priv.ensure_bridge", lab);
    expect(iptables("-S")).not.toContain("BANGER");
    await call("priv.create_tap", firstTap);
    expect(await call("priv.inventory", {})).toMatchObject({ nat_rules: [] });
  });

  test("without an uplink is an error that says so", async () => {
    ip("route", "delete", "default");
    expect(await call("priv.ensure_nat", { ...guest, enable: true })).toBe("NETWORK");
  });
});

describe("a network made by an earlier version", () => {
  /** The bridge, a VM's tap and rules for a guest with NAT, as an earlier version left them. */
  function makeEarlier(uid: number): void {
    ip("link", "add", "name", "br-fc", "type", "bridge");
    ip("address", "add", "172.16.0.1/24", "dev", "br-fc");
    ip("link", "set", "br-fc", "up");
    for (const [tap, owner] of [
      ["tap-pool-2", uid],
      ["tap-pool-3", 0],
      ["tap-fc-doctor", 0],
    ] as const) {
      ip("tuntap", "add", "dev", tap, "mode", "tap", "user", String(owner));
      ip("link", "set", tap, "master", "br-fc", "up");
    }
    const comment = "banger-nat-tap-pool-2-172.16.0.2";
    run("/usr/sbin/iptables", "-N", "BANGER-FORWARD");
    iptables("-I", "FORWARD", "-j", "BANGER-FORWARD");
    for (const direction of ["-i", "-o"])
      iptables("-A", "BANGER-FORWARD", direction, "br-fc", "-m", "comment", "--comment", "br-fc", "-j", "DROP");
    for (const words of [
      [
        "-I",
        "BANGER-FORWARD",
        "-s",
        "172.16.0.2",
        "-i",
        "br-fc",
        "-o",
        "uplink0",
        "-m",
        "comment",
        "--comment",
        comment,
        "-j",
        "ACCEPT",
      ],
      [
        "-t",
        "nat",
        "-A",
        "POSTROUTING",
        "-s",
        "172.16.0.2",
        "-o",
        "uplink0",
        "-m",
        "comment",
        "--comment",
        comment,
        "-j",
        "MASQUERADE",
      ],
    ])
      iptables(...words);
    ebtables("-A", "INPUT", "-p", "IPv4", "!", "-i", "tap-pool-2", "--ip-src", "172.16.0.2", "-j", "DROP");
  }

  test("is taken over with its taps, and its rules go", async () => {
    const uid = uidOf(host);
    makeEarlier(uid);
    ebtables("-A", "INPUT", "-p", "IPv4", "-s", "02:00:00:00:00:01", "-j", "DROP");
    iptables("-t", "nat", "-A", "POSTROUTING", "-s", "10.1.0.0/16", "-j", "MASQUERADE");
    const mac = readInterface("br-fc")?.mac;
    expect(await call("priv.ensure_bridge", lab)).toEqual({});
    expect(readInterface("br-fc")).toMatchObject({ alias: BRIDGE_ALIAS, mac: mac as string });
    expect(readInterface("tap-pool-2")).toMatchObject({ alias: tapAlias("172.16.0.2"), uid });
    expect(readInterface("tap-pool-3")).toMatchObject({ alias: tapAlias("172.16.0.3") });
    expect(readInterface("tap-fc-doctor")).toBeNull();
    expect(nft("list", "chain", "netdev", "banger", "tap-pool-2")).toContain("ip saddr 172.16.0.2");
    expect(iptables("-S") + iptables("-t", "nat", "-S")).not.toMatch(/banger|BANGER/);
    expect(iptables("-t", "nat", "-S")).toContain("10.1.0.0/16");
    expect(ebtables("-L", "INPUT").match(/-j DROP/g)).toHaveLength(1);
    expect(await call("priv.ensure_nat", { guest_ip: "172.16.0.2", tap: "tap-pool-2", enable: true })).toEqual({
      uplink: "uplink0",
    });
  });

  test("is left alone unless something only root can write says that banger made it", async () => {
    makeEarlier(uidOf(host));
    iptables("-F", "BANGER-FORWARD");
    const before = readInterface("br-fc");
    expect(await call("priv.ensure_bridge", lab)).toBe("HELPER_REFUSED");
    expect(readInterface("br-fc")).toEqual(before);
    expect(readInterface("tap-pool-2")?.alias).toBe("");
  });
});

test("a name service elsewhere is refused before resolvectl is asked", async () => {
  await call("priv.ensure_bridge", lab);
  for (const resolver of ["8.8.8.8", "172.16.0.2:53", "192.0.2.1"]) {
    expect(await call("priv.sync_resolver_routing", { bridge: "br-fc", resolver })).toBe("HELPER_REFUSED");
  }
  for (const bridge of ["uplink0", "lo"]) {
    expect(await call("priv.sync_resolver_routing", { bridge, resolver: "127.0.0.1" })).toBe("HELPER_REFUSED");
    expect(await call("priv.clear_resolver_routing", { bridge })).toBe("HELPER_REFUSED");
  }
});
