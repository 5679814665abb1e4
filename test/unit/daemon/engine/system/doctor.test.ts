import { describe, expect, test } from "bun:test";
import {
  describeHelper,
  describeNat,
  describeUntriedNat,
  examineNeeds,
  findLack,
  type NatProbe,
  type NeedsFacts,
} from "../../../../../src/daemon/engine/system/doctor.ts";
import { BangerError } from "../../../../../src/shared/errors.ts";
import { FEATURES, HELPER_TOOLS, KERNEL_MODULES } from "../../../../../src/shared/host-needs.ts";
import { NAT_DROPPERS } from "../../../../../src/shared/contract/helper-api.ts";

const all: NeedsFacts = {
  hasFile: () => true,
  hasModule: () => true,
  devices: () => "Character devices:\n  1 mem\n10 misc\n\nBlock devices:\n  7 loop\n254 device-mapper\n",
  misc: () => "237 loop-control\n236 device-mapper\n200 tun\n",
};

describe("modules and programs by feature", () => {
  test("all there", () => {
    expect(examineNeeds(all).map(({ check, level, message, fix }) => [check, level, message, fix])).toEqual([
      ["root disks", "PASS", "dm_mod, dm_snapshot, loop", null],
      ["jails", "PASS", "systemd-run", null],
      ["bridge and taps", "PASS", "tun, ip, bridge, nft", null],
    ]);
  });

  test("what is missing is said, with what brings it", () => {
    const rows = examineNeeds({
      ...all,
      hasFile: (path) => !/systemd-run|nft$/.test(path),
      hasModule: () => false,
      misc: () => "",
    });
    expect(rows).toEqual([
      {
        check: "root disks",
        level: "FAIL",
        message: "the kernel has no dm_snapshot",
        fix: "sudo modprobe -a dm_snapshot && sudo banger system restart",
      },
      {
        check: "jails",
        level: "FAIL",
        message: "systemd-run is not installed",
        fix: "sudo apt install systemd",
      },
      {
        check: "bridge and taps",
        level: "FAIL",
        message: "the kernel has no tun, nft is not installed",
        fix: "sudo apt install nftables && sudo modprobe -a tun && sudo banger system restart",
      },
    ]);
  });

  test("a driver is found by its whole name", () => {
    expect(findLack("root disks", { ...all, devices: () => " 7 loopback\n254 device-mapper2\n" }).lacks).toEqual([
      "the kernel has no dm_mod",
      "the kernel has no loop",
    ]);
  });

  test("a program is there when it is at any of the helper's paths", () => {
    expect(findLack("bridge and taps", { ...all, hasFile: (path) => path.startsWith("/sbin/") }).lacks).toEqual([]);
    expect(findLack("names", { ...all, hasFile: (path) => path.startsWith("/sbin/") })).toEqual({
      has: [],
      lacks: ["resolvectl is not installed"],
      fix: "sudo apt install systemd-resolved",
    });
  });

  test("every program and module that has a feature is in some row: none can be forgotten", () => {
    const nothing = { ...all, hasFile: () => false, hasModule: () => false, devices: () => "", misc: () => "" };
    const lacks = FEATURES.flatMap((feature) => findLack(feature, nothing).lacks).join(", ");
    for (const [name, { feature }] of Object.entries(HELPER_TOOLS))
      if (feature !== null) expect(lacks).toContain(`${name} is not installed`);
    for (const { name } of KERNEL_MODULES) expect(lacks).toContain(`the kernel has no ${name}`);
  });
});

test("a helper of another version is to be restarted", () => {
  const ping = { version: "0.2.0", helper_version: 1, pid: 7, owner_uid: 1000 };
  expect(describeHelper(ping, "0.2.0")).toMatchObject({ level: "PASS", fix: null });
  expect(describeHelper(ping, "0.2.1")).toMatchObject({ level: "WARN", fix: "sudo banger system restart" });
});

describe("a guest's packet", () => {
  const lab = { bridge: "br-fc", ip: "172.16.0.1", prefix: 24 };
  const lost = (by: NatProbe["dropped_by"], where: string | null) =>
    describeNat({ forwarded: false, dropped_by: by, where, uplink: "eth0" }, lab);

  test("that got out passes", () => {
    expect(describeNat({ forwarded: true, dropped_by: null, where: null, uplink: "eth0" }, lab)).toEqual({
      check: "NAT",
      level: "PASS",
      message: "a guest's packet got out by eth0",
      fix: null,
    });
  });

  test.each([
    ["ip_forward", "net.ipv4.ip_forward", "sudo sysctl -w net.ipv4.ip_forward=1"],
    ["ip_forward", "net.ipv4.conf.br-fc.forwarding", "sudo sysctl -w net.ipv4.conf.br-fc.forwarding=1"],
    [
      "docker",
      "iptables filter FORWARD",
      "sudo iptables -I DOCKER-USER -i br-fc -j ACCEPT && sudo iptables -I DOCKER-USER -o br-fc -j ACCEPT",
    ],
    ["ufw", "iptables filter FORWARD", "sudo ufw route allow in on br-fc"],
    [
      "firewalld",
      "nft inet firewalld filter_FORWARD",
      "sudo firewall-cmd --permanent --zone=trusted --add-interface=br-fc && sudo firewall-cmd --reload",
    ],
    ["rule", "iptables filter FORWARD", "remove the rule, or exclude br-fc from it"],
    [
      "rule",
      "iptables mangle mine",
      "sudo iptables -t mangle -I mine -s 172.16.0.1/24 -j ACCEPT && sudo iptables -t mangle -I mine -d 172.16.0.1/24 -j ACCEPT",
    ],
    [
      "rule",
      "iptables raw PREROUTING",
      "sudo iptables -t raw -I PREROUTING -s 172.16.0.1/24 -j ACCEPT && sudo iptables -t raw -I PREROUTING -d 172.16.0.1/24 -j ACCEPT",
    ],
    [
      "unknown",
      "iptables-legacy",
      "sudo iptables-legacy -I FORWARD -s 172.16.0.1/24 -j ACCEPT && sudo iptables-legacy -I FORWARD -d 172.16.0.1/24 -j ACCEPT",
    ],
    [
      "rule",
      "nft inet x forwarding",
      "sudo nft insert rule inet x forwarding ip saddr 172.16.0.1/24 accept && sudo nft insert rule inet x forwarding ip daddr 172.16.0.1/24 accept",
    ],
    ["route", "wg0", "ip rule show; ip route get 192.0.2.1; then let the default route name wg0"],
    [
      "unknown",
      "nft ip y f",
      "sudo nft insert rule ip y f ip saddr 172.16.0.1/24 accept && sudo nft insert rule ip y f ip daddr 172.16.0.1/24 accept",
    ],
    ["unknown", null, "sudo nft list ruleset; sudo iptables-save -c; sysctl -a --pattern rp_filter"],
  ] as const)("that %s (%s) ended is a warning with the fix", (by, where, fix) => {
    const row = lost(by, where);
    expect(row).toMatchObject({ check: "NAT", level: "WARN", fix });
    if (where !== null) expect(row.message).toContain(where);
  });

  test("is never more than a warning, and never without a fix", () => {
    for (const by of NAT_DROPPERS) {
      const row = lost(by, null);
      expect([by, row.level, row.fix === null, row.message.includes("null")]).toEqual([by, "WARN", false, false]);
    }
  });

  test("that had no way out, or couldn't be sent", () => {
    expect(describeUntriedNat(new BangerError("NETWORK", "this host has no default route"))).toMatchObject({
      level: "WARN",
      message: "this host has no default route",
      fix: expect.stringContaining("guests without --nat are not affected"),
    });
    expect(describeUntriedNat(new BangerError("IN_USE", "tap-fc-doctor is open"))).toMatchObject({
      level: "WARN",
      message: "could not be tested: tap-fc-doctor is open",
      fix: "sudo journalctl -u bangerd-root.service -n 20",
    });
  });
});
