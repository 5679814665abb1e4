import { expect, test } from "bun:test";
import {
  dmBaseName,
  dmName,
  isBridgeName,
  isTapName,
  numberOfPoolTap,
  parseEarlierSpoofRule,
  poolTap,
  PROBE_TAP,
  scopeName,
  VM_SCOPES,
  vmOfDm,
  vmOfScope,
} from "../../../src/shared/host-names.ts";

const VM = "0123456789ab";

test("a VM's devices and scope are read as they are made", () => {
  expect([dmName(VM), dmBaseName(VM)]).toEqual([`fc-rootfs-${VM}`, `fc-rootfs-${VM}-base`]);
  expect([dmName(VM), dmBaseName(VM)].map(vmOfDm)).toEqual([VM, VM]);
  expect(vmOfScope(scopeName(VM))).toBe(VM);
  expect(VM_SCOPES).toBe("banger-vm-*.scope");
});

test.each([
  `fc-rootfs-${VM}-`,
  `fc-rootfs-${VM}-other`,
  `fc-rootfs-${VM}-base-base`,
  `fc-rootfs-${VM}0`,
  `fc-rootfs-${VM.slice(1)}`,
  `fc-rootfs-${VM.toUpperCase()}`,
  `my-fc-rootfs-${VM}`,
  "fc-rootfs-",
  `fc-rootfs-${VM}\n`,
])("the device %j is no VM's", (name) => {
  expect(vmOfDm(name)).toBeNull();
});

test.each([
  "banger-vm-x.scope",
  `banger-vm-${VM}.service`,
  `banger-vm-${VM}xscope`,
  `banger-vm-${VM}-2.scope`,
  `x-banger-vm-${VM}.scope`,
])("the scope %j is no VM's", (name) => {
  expect(vmOfScope(name)).toBeNull();
});

test("taps and bridges", () => {
  for (const number of [0, 7, 65_534]) {
    expect(isTapName(poolTap(number))).toBe(true);
    expect(numberOfPoolTap(poolTap(number))).toBe(number);
  }
  expect(isTapName(PROBE_TAP)).toBe(true);
  for (const name of [PROBE_TAP, "tap-pool-", "tap-pool-07", "tap-pool-1x", "tap-pool-1234567", "tap0"])
    expect(numberOfPoolTap(name)).toBeNull();
  expect(["br-fc", "br-fc-lab", "br-fc-a-b"].filter(isBridgeName)).toHaveLength(3);
  expect(["br-fcoe", "br-fc-", "br-fc-a-", "br-fc-0123456789", "br0"].filter(isBridgeName)).toEqual([]);
});

test("an earlier version's rule against borrowed addresses, and what only looks like one", () => {
  const rule = "-p IPv4 -i ! tap-pool-7 --ip-src 172.16.0.7 -j DROP";
  const words = ["INPUT", "-p", "IPv4", "!", "-i", "tap-pool-7", "--ip-src", "172.16.0.7", "-j", "DROP"];
  expect(parseEarlierSpoofRule(` ${rule} `)).toEqual(words);
  for (const other of [rule.replace("tap-pool-7", "eth0"), `${rule} -x`, rule.replace("DROP", "ACCEPT"), ""])
    expect(parseEarlierSpoofRule(other)).toBeNull();
});
