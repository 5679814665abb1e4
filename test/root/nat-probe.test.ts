/**
 * `priv.probe_nat` with its real packet, in the tests' own network namespace (run.ts), with a listening namespace
 * behind the uplink.
 */

import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { existsSync } from "node:fs";
import { GuestNetwork } from "../../src/daemon/engine/system/network/guest-network.ts";
import type { Privileged } from "../../src/daemon/engine/system/privileged.ts";
import { describeNat } from "../../src/daemon/engine/system/doctor.ts";
import { createDispatch } from "../../src/helper/dispatch.ts";
import { HELPER_VERSION } from "../../src/shared/contract/helper-api.ts";
import { readInterface } from "../../src/helper/network/interfaces.ts";
import { isInstalled } from "../../src/helper/run-tool.ts";
import { holdTap } from "../../src/helper/sys/taps.ts";
import { BangerError } from "../../src/shared/errors.ts";
import type { HelperOutputOf } from "../../src/shared/contract/helper-api.ts";
import { keepLog } from "../support/log.ts";
import { clearNetwork, ip, iptables, makeHost, run, type TestHost } from "./support.ts";

const WORLD = "198.51.100.1";
const GUEST = { guest_ip: "172.16.0.254", tap: "tap-fc-doctor" };
const UPLINK_FORWARDING = "/proc/sys/net/ipv4/conf/uplink0/forwarding";
const BRIDGE_FORWARDING = "/proc/sys/net/ipv4/conf/br-fc/forwarding";
const FORWARDED = { forwarded: true, dropped_by: null, where: null };

let host: TestHost;
/** Returns the result or the error's code. */
async function call(method: string, params: unknown): Promise<unknown> {
  const { answer } = await createDispatch(host.context)({
    v: HELPER_VERSION,
    method: `priv.${method}`,
    params,
    op: null,
  });
  return "result" in answer ? answer.result : answer.error.code;
}
const probe = async (params: unknown = GUEST): Promise<unknown> => await call("probe_nat", params);

beforeEach(async () => {
  host = makeHost();
  ip("link", "set", "lo", "up");
  ip("netns", "add", "world");
  ip("link", "add", "uplink0", "type", "veth", "peer", "name", "eth0", "netns", "world");
  ip("-n", "world", "address", "add", `${WORLD}/24`, "dev", "eth0");
  ip("-n", "world", "link", "set", "eth0", "up");
  ip("address", "add", "198.51.100.2/24", "dev", "uplink0");
  ip("link", "set", "uplink0", "up");
  ip("route", "add", "default", "via", WORLD);
  expect(await call("ensure_bridge", { bridge: "br-fc", ip: "172.16.0.1", prefix: 24 })).toEqual({});
  expect(await call("create_tap", { ...GUEST, bridge: "br-fc" })).toEqual({});
  expect(await call("ensure_nat", { ...GUEST, enable: true })).toEqual({ uplink: "uplink0" });
});
afterEach(async () => {
  clearNetwork();
  ip("netns", "delete", "world");
  // A route without a device is not removed with any device.
  ip("route", "flush", "192.0.2.0/24");
  host[Symbol.dispose]();
});

describe("a packet that gets out", () => {
  test("is seen, again and again, leaves the uplink with the host's address, and changes nothing", async () => {
    // What really leaves, as counted by the other side.
    const seen = ["netns", "exec", "world", "/usr/sbin/iptables", "-w"];
    ip(...seen, "-t", "raw", "-A", "PREROUTING", "-s", "198.51.100.2", "-p", "udp", "--dport", "9", "-j", "DROP");
    // Rate limits are recorded by address.
    const ruleset = (): string =>
      run("/usr/sbin/nft", "--stateless", "list", "ruleset").replaceAll(/^.*elements = .* over .*\n/gm, "");
    const rules = ruleset();
    for (let round = 1; round <= 3; round++) {
      expect(await probe()).toEqual(FORWARDED);
      expect(ip("netns", "exec", "world", "/usr/sbin/iptables-save", "-c", "-t", "raw")).toContain(`[${round}:`);
    }
    expect(ruleset()).toBe(rules);
    expect(await call("ensure_nat", { ...GUEST, enable: false })).toEqual({ uplink: null });
    expect(await call("delete_tap", { tap: GUEST.tap })).toEqual({});
  });

  test("gets past drops in other tables, because ours is consulted first", async () => {
    dockerRules();
    iptables("-P", "FORWARD", "DROP");
    await call("ensure_nat", { ...GUEST, enable: true });
    expect(await probe()).toEqual(FORWARDED);
  });
});

describe("a probe by doctor", () => {
  const privileged: Privileged = {
    call: async (verb, input) => {
      const { answer } = await createDispatch(host.context)({
        v: HELPER_VERSION,
        method: verb,
        params: input,
        op: null,
      });
      if ("error" in answer) throw new BangerError(answer.error.code, answer.error.message);
      return answer.result as never;
    },
  };
  const ask = async (): Promise<unknown> => {
    const log = keepLog();
    const network = new GuestNetwork({
      privileged,
      log,
      settings: { bridge: "br-fc", ip: null, prefix: 24, poolSize: 0 },
      readRoutes: () => [],
      onBridge: async () => undefined,
    });
    try {
      return await network.probeNat(new Set(["172.16.0.254"]));
    } finally {
      expect(log.lines).toEqual([]);
    }
  };
  /** Everything that a probe could leave behind. */
  const left = async (): Promise<unknown> => {
    const { taps, nat_rules } = await privileged.call("priv.inventory", {});
    const chains = run("/usr/sbin/nft", "list", "ruleset").match(/tap-fc-doctor/g);
    return { taps, nat_rules, chains };
  };
  const NOTHING = { taps: [], nat_rules: [], chains: null };

  test("gets out on a host without guests, and leaves nothing behind", async () => {
    await call("ensure_nat", { ...GUEST, enable: false });
    await call("delete_tap", { tap: GUEST.tap });
    ip("link", "delete", "br-fc");
    expect(await ask()).toEqual({ ...FORWARDED, uplink: "uplink0" });
    expect(await left()).toEqual(NOTHING);
    ip("route", "delete", "default");
    await expect(ask()).rejects.toMatchObject({ code: "NETWORK" });
    expect(await left()).toEqual(NOTHING);
  });

  test("works despite the leftovers of a killed daemon, and removes them", async () => {
    expect(await ask()).toEqual({ ...FORWARDED, uplink: "uplink0" });
    expect(await left()).toEqual(NOTHING);
  });
});

/** Sets up a host as Docker does: its own chains, and a policy that drops what none of them accepts. */
function dockerRules(): void {
  for (const chain of ["DOCKER-USER", "DOCKER-FORWARD", "DOCKER"]) iptables("-N", chain);
  iptables("-I", "FORWARD", "1", "-j", "DOCKER-FORWARD");
  iptables("-I", "FORWARD", "1", "-j", "DOCKER-USER");
  iptables("-A", "DOCKER-FORWARD", "-o", "docker0", "-j", "DOCKER");
  iptables("-A", "DOCKER", "!", "-i", "docker0", "-o", "docker0", "-j", "DROP");
}
/** Our chain is no longer called. */
const forgetOurs = (): string => iptables("-D", "FORWARD", "-j", "BANGER-FORWARD");

const ENDINGS: readonly (readonly [string, () => unknown, unknown])[] = [
  [
    "Docker's policy",
    () => {
      forgetOurs();
      dockerRules();
      iptables("-P", "FORWARD", "DROP");
    },
    { dropped_by: "docker", where: "iptables filter FORWARD" },
  ],
  [
    "a rule in one of Docker's chains",
    () => {
      forgetOurs();
      dockerRules();
      iptables("-A", "DOCKER-USER", "-i", "br-fc", "-j", "REJECT");
    },
    { dropped_by: "docker", where: "iptables filter DOCKER-USER" },
  ],
  [
    "ufw",
    () => {
      forgetOurs();
      for (const chain of ["ufw-before-forward", "ufw-user-forward"]) iptables("-N", chain);
      iptables("-A", "FORWARD", "-j", "ufw-before-forward");
      iptables("-A", "ufw-before-forward", "-j", "ufw-user-forward");
      iptables("-P", "FORWARD", "DROP");
    },
    { dropped_by: "ufw", where: "iptables filter FORWARD" },
  ],
  [
    "firewalld in iptables",
    () => {
      forgetOurs();
      iptables("-N", "FORWARD_IN_ZONES");
      iptables("-A", "FORWARD", "-j", "FORWARD_IN_ZONES");
      iptables("-A", "FORWARD", "-j", "REJECT", "--reject-with", "icmp-host-prohibited");
    },
    { dropped_by: "firewalld", where: "iptables filter FORWARD" },
  ],
  [
    "somebody's policy",
    () => {
      forgetOurs();
      iptables("-P", "FORWARD", "DROP");
    },
    { dropped_by: "rule", where: "iptables filter FORWARD" },
  ],
  [
    "a rule in another program's table",
    () => iptables("-t", "mangle", "-A", "FORWARD", "-s", "172.16.0.0/24", "-j", "DROP"),
    { dropped_by: "rule", where: "iptables mangle FORWARD" },
  ],
  [
    "an uplink that does not forward",
    async () => await Bun.write(UPLINK_FORWARDING, "0"),
    { dropped_by: "ip_forward", where: "net.ipv4.conf.uplink0.forwarding" },
  ],
  [
    "a chain with a misleading name",
    () => {
      forgetOurs();
      iptables("-N", "a;rm-rf/");
      iptables("-A", "FORWARD", "-j", "a;rm-rf/");
      iptables("-A", "a;rm-rf/", "-j", "DROP");
    },
    { dropped_by: "rule", where: null },
  ],
  [
    "a bridge that does not forward, on a host that does",
    async () => await Bun.write(BRIDGE_FORWARDING, "0"),
    { dropped_by: "ip_forward", where: "net.ipv4.conf.br-fc.forwarding" },
  ],
  [
    "a route through another device, as a VPN adds",
    () => {
      ip("link", "add", "vpn0", "type", "veth", "peer", "name", "vpn1");
      ip("link", "set", "vpn0", "up");
      ip("route", "add", "192.0.2.0/24", "dev", "vpn0");
    },
    { dropped_by: "route", where: "vpn0" },
  ],
  [
    "something that leaves no trace",
    () => ip("route", "add", "blackhole", "192.0.2.0/24"),
    { dropped_by: "unknown", where: null },
  ],
];
/** Returns doctor's fix if it consists of commands of installed tools, otherwise false. */
function mend(result: unknown): boolean {
  const network = { bridge: "br-fc", ip: "172.16.0.1", prefix: 24 };
  const { fix } = describeNat({ ...(result as HelperOutputOf<"priv.probe_nat">), uplink: "uplink0" }, network);
  const commands = (fix ?? "").split(" && ").map((command) => command.split(" ").slice(1));
  const isRun = ([tool = "", ...words]: readonly string[]): boolean =>
    ["iptables", "iptables-legacy", "sysctl", "nft"].includes(tool) && !words.some((word) => word.endsWith(";"));
  if (!commands.every(isRun)) return false;
  for (const [tool = "", ...words] of commands) run(`/usr/sbin/${tool}`, ...words);
  return true;
}
/** The cases for which doctor has a command that this machine can run. */
const MENDED: readonly string[] = [
  "Docker's policy",
  "a rule in one of Docker's chains",
  "a rule in another program's table",
  "an uplink that does not forward",
  "a bridge that does not forward, on a host that does",
];
test.each(ENDINGS)("a packet dropped by %s is not seen, and the cause is named", async (name, prepare, expected) => {
  expect(await probe()).toEqual(FORWARDED);
  await prepare();
  const result = await probe();
  expect(result).toEqual({ forwarded: false, ...(expected as object) });
  expect(mend(result)).toBe(MENDED.includes(name));
  if (MENDED.includes(name)) expect(await probe()).toEqual(FORWARDED);
});
/** A filter besides iptables: an accept in one is no accept in the other. */
const NFT_FILTERS: readonly (readonly [table: string, hook: string, rule: string | null, expected: unknown])[] = [
  [
    "firewalld",
    "type filter hook forward priority 10; policy accept",
    "reject with icmpx type admin-prohibited",
    { dropped_by: "firewalld", where: "nft inet firewalld forwarding" },
  ],
  [
    "mine",
    "type filter hook forward priority -5; policy accept",
    "ip saddr 172.16.0.0/12 counter drop",
    { dropped_by: "rule", where: "nft inet mine forwarding" },
  ],
  [
    "mute",
    "type filter hook forward priority 0; policy drop",
    null,
    { dropped_by: "unknown", where: "nft inet mute forwarding" },
  ],
];
describe("a packet that nft drops", () => {
  if (!isInstalled("nft")) {
    console.error("skip: nft is not installed, so its filters are not tried");
    return;
  }
  test.each(NFT_FILTERS)("in table %s is not seen, and the table is named", async (table, hook, rule, expected) => {
    const chain = ["add", "chain", "inet", table, "forwarding"];
    run("/usr/sbin/nft", "add", "table", "inet", table);
    run("/usr/sbin/nft", ...chain, `{ ${hook}; }`);
    if (rule !== null) run("/usr/sbin/nft", "add", "rule", "inet", table, "forwarding", rule);
    expect(await probe()).toEqual({ forwarded: false, ...(expected as object) });
    const isMended = mend({ forwarded: false, ...(expected as object) });
    expect(isMended).toBe(table !== "firewalld");
    if (isMended) expect(await probe()).toEqual(FORWARDED);
    run("/usr/sbin/nft", "delete", "table", "inet", table);
    expect(await probe()).toEqual(FORWARDED);
  });
});

test("a packet that legacy iptables drops is not seen, and that is named", async () => {
  const legacy = "/usr/sbin/iptables-legacy";
  if (!existsSync(legacy) || Bun.spawnSync([legacy, "-S"]).exitCode !== 0) {
    console.error("skip: iptables-legacy doesn't work here");
    return;
  }
  run(legacy, "-P", "FORWARD", "DROP");
  const expected = { forwarded: false, dropped_by: "unknown", where: "iptables-legacy" };
  expect(await probe()).toEqual(expected);
  expect(mend(expected)).toBe(true);
  expect(await probe()).toEqual(FORWARDED);
  run(legacy, "-F");
  run(legacy, "-P", "FORWARD", "ACCEPT");
});

describe("the probe is refused", () => {
  test("on a tap that a VMM has open, because it would speak for that guest", async () => {
    using _held = holdTap(GUEST.tap);
    expect(await probe()).toBe("IN_USE");
  });

  test("without NAT for that address on that tap", async () => {
    expect(await probe({ ...GUEST, guest_ip: "172.16.0.253" })).toBe("HELPER_REFUSED");
    await call("ensure_nat", { ...GUEST, enable: false });
    expect(await probe()).toBe("FAILED");
  });

  test.each([
    ["an interface of the host", { ...GUEST, tap: "uplink0" }, "HELPER_REFUSED"],
    ["an interface that is only named like a tap", { ...GUEST, tap: "tap-fc-veth" }, "HELPER_REFUSED"],
    ["a tap on another bridge", { ...GUEST, tap: "tap-pool-9" }, "HELPER_REFUSED"],
    ["a tap that isn't there", { ...GUEST, tap: "tap-pool-8" }, "FAILED"],
    ["the bridge's own address", { ...GUEST, guest_ip: "172.16.0.1" }, "HELPER_REFUSED"],
    ["an address of another network", { ...GUEST, guest_ip: "10.9.9.9" }, "HELPER_REFUSED"],
    ["a public address", { ...GUEST, guest_ip: "198.51.100.7" }, "HELPER_REFUSED"],
    ["a target that the caller chooses", { ...GUEST, target: "198.51.100.1" }, "INVALID_REQUEST"],
  ])("%s, and nothing is sent", async (_, params, code) => {
    ip("link", "add", "tap-fc-veth", "type", "veth", "peer", "name", "veth1");
    ip("link", "add", "br-lan", "type", "bridge");
    ip("tuntap", "add", "dev", "tap-pool-9", "mode", "tap", "user", "0");
    ip("link", "set", "tap-pool-9", "master", "br-lan");
    const counters = (): string => run("/usr/sbin/nft", "list", "ruleset");
    const before = counters();
    expect(await probe(params)).toBe(code);
    expect(counters()).toBe(before);
    // Opening a missing tap would create it.
    expect(readInterface("tap-pool-8")).toBeNull();
  });
});
