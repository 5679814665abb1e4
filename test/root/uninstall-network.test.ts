/**
 * Uninstall's network part, after the helper has set up everything: every family is as before, and others' rules are
 * untouched.
 */

import { afterEach, beforeEach, expect, test } from "bun:test";
import { HELPER_VERSION } from "../../src/shared/contract/helper-api.ts";
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { isMarkedInterface, removeFirewallRules, removeInterface } from "../../src/cmd/system/host/host-network.ts";
import { createDispatch } from "../../src/helper/dispatch.ts";
import { listInterfaces, readInterface } from "../../src/helper/network/interfaces.ts";
import { switchesFile } from "../../src/shared/network/walls.ts";
import { clearNetwork, ip, iptables, makeHost, run, type TestHost } from "./support.ts";

let host: TestHost;
const call = async (method: string, params: unknown): Promise<unknown> => {
  const { answer } = await createDispatch(host.context)({
    v: HELPER_VERSION,
    method: `priv.${method}`,
    params,
    op: null,
  });
  return "result" in answer ? answer.result : answer.error.message;
};
const nft = (...words: readonly string[]): string => run("/usr/sbin/nft", ...words);
const SWITCHES = ["ip_forward", "conf/uplink0/forwarding", "conf/uplink0/src_valid_mark"];

function look(): string {
  return [
    ...listInterfaces().map(({ name }) => name),
    ip("rule", "show"),
    ip("neighbour", "show", "nud", "permanent"),
    iptables("-S"),
    iptables("-t", "nat", "-S"),
    run("/usr/sbin/ebtables", "-L"),
    nft("--stateless", "list", "ruleset"),
    ...SWITCHES.map((key) => readFileSync(`/proc/sys/net/ipv4/${key}`, "utf8")),
  ].join("\n");
}

beforeEach(() => {
  host = makeHost();
  writeFileSync("/proc/sys/net/ipv4/ip_forward", "0");
  ip("link", "add", "uplink0", "type", "veth", "peer", "name", "peer0");
  ip("address", "add", "192.0.2.2/24", "dev", "uplink0");
  for (const name of ["uplink0", "peer0"]) ip("link", "set", name, "up");
  ip("route", "add", "default", "via", "192.0.2.1");
  // Others' rules that look as much like banger's as possible.
  iptables("-A", "FORWARD", "-i", "br-fc", "-j", "DROP");
  iptables("-t", "nat", "-A", "POSTROUTING", "-s", "172.16.0.2", "-j", "MASQUERADE");
  nft("add", "table", "inet", "banger-of-mine");
  ip("rule", "add", "pref", "4202", "iif", "uplink0", "prohibit");
  run("/usr/sbin/ebtables", "-A", "INPUT", "-p", "IPv4", "-s", "02:00:00:00:00:01", "-j", "DROP");
});
afterEach(() => {
  clearNetwork();
  host[Symbol.dispose]();
});

test("removes banger's rules, tables, entries and switches of every family, and nothing else", async () => {
  const before = look();
  expect(await call("ensure_bridge", { bridge: "br-fc", ip: "172.16.0.1", prefix: 24 })).toEqual({});
  expect(await call("create_tap", { tap: "tap-pool-2", bridge: "br-fc", guest_ip: "172.16.0.2" })).toEqual({});
  expect(await call("ensure_nat", { tap: "tap-pool-2", guest_ip: "172.16.0.2", enable: true })).toEqual({
    uplink: "uplink0",
  });
  expect(existsSync(switchesFile(host.context.paths))).toBe(true);
  for (const name of ["tap-pool-2", "br-fc"]) await removeInterface(name);
  await removeFirewallRules(host.context.paths);
  expect(look()).toBe(before);
  expect(existsSync(switchesFile(host.context.paths))).toBe(false);
  // Once more, with nothing left.
  await removeFirewallRules(host.context.paths);
  expect(look()).toBe(before);
});

test("removes what an earlier version left behind", async () => {
  const before = look();
  iptables("-N", "BANGER-FORWARD");
  iptables("-I", "FORWARD", "-j", "BANGER-FORWARD");
  iptables("-A", "BANGER-FORWARD", "-i", "br-fc", "-m", "comment", "--comment", "br-fc", "-j", "DROP");
  const comment = ["-m", "comment", "--comment", "banger-nat-tap-pool-2-172.16.0.2"];
  iptables("-t", "nat", "-A", "POSTROUTING", "-s", "172.16.0.2", "-o", "uplink0", ...comment, "-j", "MASQUERADE");
  const spoof = ["-p", "IPv4", "!", "-i", "tap-pool-2", "--ip-src", "172.16.0.2", "-j", "DROP"];
  run("/usr/sbin/ebtables", "-A", "INPUT", ...spoof);
  await removeFirewallRules(host.context.paths);
  expect(look()).toBe(before);
});

test("keeps forwarding on if the host itself forwards now", async () => {
  await call("ensure_bridge", { bridge: "br-fc", ip: "172.16.0.1", prefix: 24 });
  await call("create_tap", { tap: "tap-pool-2", bridge: "br-fc", guest_ip: "172.16.0.2" });
  await call("ensure_nat", { tap: "tap-pool-2", guest_ip: "172.16.0.2", enable: true });
  writeFileSync("/proc/sys/net/ipv4/ip_forward", "1");
  await removeFirewallRules(host.context.paths);
  expect(readFileSync("/proc/sys/net/ipv4/conf/uplink0/forwarding", "utf8")).toBe("1\n");
  expect(readFileSync("/proc/sys/net/ipv4/conf/uplink0/src_valid_mark", "utf8")).toBe("0\n");
});

test("keeps an interface without banger's mark, whatever its name", async () => {
  ip("link", "add", "br-fc", "type", "bridge");
  ip("tuntap", "add", "dev", "tap-pool-7", "mode", "tap", "user", "0");
  for (const name of ["br-fc", "tap-pool-7", "uplink0", "nothing"]) {
    expect(isMarkedInterface(name)).toBe(false);
    await expect(removeInterface(name)).rejects.toThrow("does not carry banger's mark");
  }
  for (const name of ["br-fc", "tap-pool-7"]) expect(readInterface(name)).not.toBeNull();
});
