/** In a network namespace of the tests' own: see run.ts. */

import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { existsSync } from "node:fs";
import { natRules, parseRuleset, planBridge, planNat } from "../../src/helper/firewall.ts";
import { createDispatch } from "../../src/helper/dispatch.ts";
import { listInterfaces, readInterface } from "../../src/helper/network.ts";
import { HELPER_VERSION } from "../../src/shared/helper-contract.ts";
import { giveTap } from "../../src/helper/sys/taps.ts";
import { ip, iptables, makeHost, outputAs, OWNER, run, type TestHost, uidOf } from "./support.ts";

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
/** The result, or the error's code. */
async function call(method: string, params: unknown): Promise<unknown> {
  const { answer } = await dispatchOf()({ v: HELPER_VERSION, method, params, op: null });
  return "result" in answer ? answer.result : answer.error.code;
}
const lab = { bridge: "br-fc", ip: "172.16.0.1", prefix: 24 };

/** Everything of the network that an attack would have to change. */
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
  ].join("\n");
}

beforeEach(() => {
  host = makeHost();
  // An uplink, and interfaces that look as if they were ours.
  ip("link", "set", "lo", "up");
  addInterface("uplink0");
  ip("address", "add", "192.0.2.2/24", "dev", "uplink0");
  ip("link", "set", "uplink0", "up");
  ip("route", "add", "default", "via", "192.0.2.1");
});
afterEach(async () => {
  for (const { name } of listInterfaces()) {
    // The other end of a pair goes with the first.
    if (name !== "lo" && readInterface(name) !== null) ip("link", "delete", name);
  }
  iptables("-P", "FORWARD", "ACCEPT");
  for (const table of ["filter", "nat"]) {
    iptables("-t", table, "-F");
    iptables("-t", table, "-X");
  }
  ebtables("-F");
  host[Symbol.dispose]();
});

describe("the bridge", () => {
  test("is made once, with its address, and its drops behind a chain that is asked first", async () => {
    iptables("-P", "FORWARD", "DROP");
    iptables("-A", "FORWARD", "-j", "DROP");
    expect(await call("priv.ensure_bridge", lab)).toEqual({});
    const first = snapshot();
    expect(await call("priv.ensure_bridge", lab)).toEqual({});
    expect(snapshot()).toBe(first);
    expect(ip("-brief", "address", "show", "br-fc").trim()).toMatch(/^br-fc +\S+ +172\.16\.0\.1\/24$/);
    expect(iptables("-S", "FORWARD").split("\n")[1]).toBe("-A FORWARD -j BANGER-FORWARD");
    expect(iptables("-S", "BANGER-FORWARD").match(/-j DROP/g)).toHaveLength(2);
    // Somebody puts a rule of theirs in front: the next call is first again, and once.
    iptables("-I", "FORWARD", "1", "-j", "DROP");
    await call("priv.ensure_bridge", lab);
    expect(iptables("-S", "FORWARD").split("\n")[1]).toBe("-A FORWARD -j BANGER-FORWARD");
    expect(iptables("-S", "FORWARD").match(/BANGER-FORWARD/g)).toHaveLength(1);
  });

  test("takes another address while nothing uses it, and not when something does", async () => {
    await call("priv.ensure_bridge", lab);
    expect(await call("priv.ensure_bridge", { ...lab, ip: "172.20.0.1" })).toEqual({});
    await call("priv.create_tap", { tap: "tap-pool-1", bridge: "br-fc" });
    expect(await call("priv.ensure_bridge", lab)).toBe("IN_USE");
  });

  test.each([
    ["eth0 upped", { ...lab, bridge: "uplink0" }],
    ["lo re-addressed", { ...lab, bridge: "lo" }],
    ["a dummy with a bridge's name", { ...lab, bridge: "br-fc-dummy" }],
    ["a bridge that holds the uplink", { ...lab, bridge: "br-fc-lan" }],
    ["the uplink's own subnet", { ...lab, ip: "192.168.7.5", prefix: 24 }],
    ["one address of the LAN's", { ...lab, ip: "192.168.7.1", prefix: 32 }],
    ["a subnet around the LAN's", { ...lab, ip: "192.168.0.1", prefix: 16 }],
    ["a public subnet", { ...lab, ip: "192.0.2.9" }],
  ])("%s is refused and changes nothing", async (_, params) => {
    addInterface("br-fc-dummy");
    ip("link", "add", "br-fc-lan", "type", "bridge");
    addInterface("lan0");
    ip("link", "set", "lan0", "up", "master", "br-fc-lan");
    ip("address", "add", "192.168.7.2/24", "dev", "uplink0");
    const before = snapshot();
    expect(await call("priv.ensure_bridge", params)).toBe("HELPER_REFUSED");
    expect(snapshot()).toBe(before);
  });
});

/** Opens a tap as that user; the error's code, or `opened`. */
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
  test("are root's until they are handed over, and that uid's afterwards", async () => {
    const uid = uidOf(host);
    await call("priv.ensure_bridge", lab);
    expect(await call("priv.create_tap", { tap: "tap-pool-1", bridge: "br-fc" })).toEqual({});
    expect(await call("priv.create_tap", { tap: "tap-pool-1", bridge: "br-fc" })).toEqual({});
    expect(ip("-6", "address", "show", "dev", "tap-pool-1")).toBe("");
    expect(readInterface("tap-pool-1")).toMatchObject({ kind: "tun", tunType: "tap", master: "br-fc" });
    for (const who of [OWNER, uid]) expect(await openTapAs(who, "tap-pool-1")).toBe("EPERM");
    giveTap("tap-pool-1", uid);
    expect(await openTapAs(uid, "tap-pool-1")).toBe("opened");
    for (const who of [OWNER, uid + 1]) expect(await openTapAs(who, "tap-pool-1")).toBe("EPERM");
    // The inventory tells whose it is, and releasing the VM has to wait for it.
    expect(await call("priv.inventory", {})).toMatchObject({ taps: [{ tap: "tap-pool-1", uid }], bridges: ["br-fc"] });
    expect(await call("priv.release_vm", { vm: "0123456789ab" })).toBe("IN_USE");
    // Back to the pool.
    expect(await call("priv.create_tap", { tap: "tap-pool-1", bridge: "br-fc" })).toEqual({});
    expect(await openTapAs(uid, "tap-pool-1")).toBe("EPERM");
    expect(await call("priv.release_vm", { vm: "0123456789ab" })).toEqual({});
    expect(await call("priv.delete_tap", { tap: "tap-pool-1" })).toEqual({});
    expect(await call("priv.delete_tap", { tap: "tap-pool-1" })).toEqual({});
    expect(readInterface("tap-pool-1")).toBeNull();
  });

  test("in use are neither deleted nor made anew", async () => {
    await call("priv.ensure_bridge", lab);
    await call("priv.create_tap", { tap: "tap-pool-1", bridge: "br-fc" });
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
    expect(await call("priv.create_tap", { tap: "tap-pool-1", bridge: "br-fc" })).toBe("IN_USE");
    holder.kill("SIGKILL");
    await holder.exited;
    expect(await call("priv.delete_tap", { tap: "tap-pool-1" })).toEqual({});
  });

  test("of others, and what only is named like one, are left alone", async () => {
    await call("priv.ensure_bridge", lab);
    addInterface("tap-pool-2");
    ip("link", "add", "br-lan", "type", "bridge");
    ip("tuntap", "add", "dev", "tap-pool-3", "mode", "tap", "user", "0");
    ip("link", "set", "tap-pool-3", "master", "br-lan");
    ip("tuntap", "add", "dev", "tap-pool-4", "mode", "tun", "user", "0");
    ip("tuntap", "add", "dev", "tap0", "mode", "tap", "user", "0");
    const before = snapshot();
    for (const tap of ["tap-pool-2", "tap-pool-3", "tap-pool-4", "tap0", "uplink0", "lo"]) {
      expect(await call("priv.delete_tap", { tap })).toBe("HELPER_REFUSED");
      expect(await call("priv.create_tap", { tap, bridge: "br-fc" })).toBe("HELPER_REFUSED");
    }
    for (const bridge of ["br-lan", "uplink0", "lo"]) {
      expect(await call("priv.create_tap", { tap: "tap-pool-9", bridge })).toBe("HELPER_REFUSED");
    }
    expect(await call("priv.create_tap", { tap: "tap-pool-9", bridge: "br-fc-none" })).toBe("FAILED");
    expect(snapshot()).toBe(before);
  });
});

describe("NAT", () => {
  const guest = { guest_ip: "172.16.0.2", tap: "tap-pool-1" };
  beforeEach(async () => {
    await call("priv.ensure_bridge", lab);
    await call("priv.create_tap", { tap: "tap-pool-1", bridge: "br-fc" });
  });

  test("is added once, restored after a flush, moved with the uplink, and gone without a trace", async () => {
    const before = snapshot();
    expect(await call("priv.ensure_nat", { ...guest, enable: true })).toEqual({ uplink: "uplink0" });
    const once = snapshot();
    await call("priv.ensure_nat", { ...guest, enable: true });
    expect(snapshot()).toBe(once);
    // Nothing was even rewritten: what is planned is what the tool prints.
    const rules = parseRuleset(run("/usr/sbin/iptables-save"));
    const guestRules = { guestIp: guest.guest_ip, tap: guest.tap };
    expect(planBridge(rules, "br-fc")).toEqual({ filter: [], nat: [] });
    expect(planNat(rules, guestRules, natRules(guestRules, "br-fc", "uplink0"))).toEqual({ filter: [], nat: [] });
    expect(ebtables("-L", "INPUT").match(/-i ! tap-pool-1 --ip-src 172\.16\.0\.2 -j DROP/g)).toHaveLength(1);
    expect(iptables("-t", "nat", "-S").match(/MASQUERADE/g)).toHaveLength(1);
    const chain = iptables("-S", "BANGER-FORWARD").trim().split("\n").slice(1);
    expect(chain.map((rule) => rule.split(" ").at(-1))).toEqual(["ACCEPT", "ACCEPT", "DROP", "DROP"]);

    // As a firewall's reload does.
    iptables("-F");
    iptables("-t", "nat", "-F");
    iptables("-X", "BANGER-FORWARD");
    await call("priv.ensure_nat", { ...guest, enable: true });
    expect(snapshot()).toBe(once);

    addInterface("uplink1");
    ip("address", "add", "198.51.100.2/24", "dev", "uplink1");
    ip("link", "set", "uplink1", "up");
    ip("route", "replace", "default", "via", "198.51.100.1");
    expect(await call("priv.ensure_nat", { ...guest, enable: true })).toEqual({ uplink: "uplink1" });
    expect(iptables("-S") + iptables("-t", "nat", "-S")).not.toContain("uplink0");
    expect(iptables("-t", "nat", "-S").match(/MASQUERADE/g)).toHaveLength(1);
    ip("route", "replace", "default", "via", "192.0.2.1");
    ip("link", "delete", "uplink1");

    expect(await call("priv.inventory", {})).toMatchObject({
      nat_rules: expect.arrayContaining([expect.stringContaining("MASQUERADE")]),
    });
    expect(await call("priv.ensure_nat", { ...guest, enable: false })).toEqual({ uplink: null });
    await call("priv.ensure_nat", { ...guest, enable: false });
    expect(snapshot()).toBe(before);
  });

  test("of one guest doesn't touch another's, nor the host's own rules", async () => {
    iptables("-t", "nat", "-A", "POSTROUTING", "-s", "172.16.0.2/32", "-o", "uplink0", "-j", "MASQUERADE");
    iptables("-A", "FORWARD", "-s", "172.16.0.2/32", "-j", "ACCEPT");
    await call("priv.create_tap", { tap: "tap-pool-10", bridge: "br-fc" });
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
  ])("for %s is refused and changes nothing", async (_, params, code) => {
    giveTap("tap-pool-5", 0);
    const before = snapshot();
    expect(await call("priv.ensure_nat", { ...params, enable: true })).toBe(code);
    expect(snapshot()).toBe(before);
  });

  test("without a way out says so", async () => {
    ip("route", "delete", "default");
    expect(await call("priv.ensure_nat", { ...guest, enable: true })).toBe("NETWORK");
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
