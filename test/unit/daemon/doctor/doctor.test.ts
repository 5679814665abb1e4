/** Doctor of the installed system, on a pretended host; each row that is told apart by what the host holds. */

import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { chmod, rm, writeFile } from "node:fs/promises";
import { examineHost } from "../../../../src/daemon/doctor/doctor.ts";
import { createPrivileged } from "../../../../src/daemon/engine/system/privileged.ts";
import { findLeftovers, removeLeftovers } from "../../../../src/daemon/vm/gc.ts";
import type { VmService } from "../../../../src/daemon/vm/service.ts";
import type { DoctorRow } from "../../../../src/shared/contract/schemas.ts";
import { VERSION } from "../../../../src/shared/version.ts";
import { BangerError } from "../../../../src/shared/errors.ts";
import { FACTS, makeWorld, run, type World } from "../../../support/system-world.ts";

let world: World;
let service: VmService;
beforeEach(async () => {
  world = await makeWorld();
  const { runtimeDir, stateDir, apiSocket } = world.paths;
  for (const dir of [runtimeDir, stateDir]) await chmod(dir, 0o700);
  await writeFile(apiSocket, "", { mode: 0o600 });
  service = await world.start();
});
afterEach(async () => await world[Symbol.asyncDispose]());

const examine = async (): Promise<readonly DoctorRow[]> => await examineHost(service.parts, run.signal);
const rowOf = (rows: readonly DoctorRow[], check: string): DoctorRow | undefined =>
  rows.find((row) => row.check === check);
/** This machine may lack programs; that is not these tests' concern. */
const failuresOf = (rows: readonly DoctorRow[]): readonly string[] =>
  rows.filter(({ level, check }) => level === "FAIL" && !check.startsWith("tool ")).map(({ check }) => check);
const startWith = async (facts: Partial<World["facts"]>): Promise<void> => {
  world.facts = { ...FACTS, ...facts };
  service = await world.start();
};

test("a host that lacks nothing: a packet went out, nothing of it is left, and every row that isn't a pass has a fix", async () => {
  const rows = await examine();
  expect(failuresOf(rows)).toEqual([]);
  for (const check of ["kvm", "root disks", "jails", "bridge and taps", "root helper", "firecracker", "network"])
    expect(rowOf(rows, check)).toMatchObject({ check, level: "PASS", fix: null });
  expect(rowOf(rows, "NAT")).toMatchObject({ level: "PASS", message: "a guest's packet got out by eth0" });
  expect(rowOf(rows, "names")).toMatchObject({ level: "PASS" });
  expect(rowOf(rows, "leftovers")).toMatchObject({ level: "PASS" });
  expect(rowOf(rows, "clock")?.level).not.toBe("FAIL");
  for (const row of rows) expect([row.check, row.fix === null]).toEqual([row.check, row.level === "PASS"]);
  expect(new Set(rows.map(({ check }) => check)).size).toBe(rows.length);
  expect(world.host.list()).toEqual([]);
  expect(world.helper.calls.filter(({ verb }) => verb === "priv.probe_nat")).toHaveLength(1);
});

test("what its packet needs is no leftover while it is under way", async () => {
  const found: number[] = [];
  world.host.duringProbe = async () => {
    expect(world.host.list()).toHaveLength(2);
    found.push((await findLeftovers(service.parts)).length);
  };
  const [rows] = await Promise.all([examine(), examine()]);
  expect(rowOf(rows, "leftovers")).toMatchObject({ level: "PASS" });
  expect(found).toEqual([0]);
  expect(world.host.list()).toEqual([]);
});

test("what a killed daemon's probe left is a leftover like any other, and gc takes it away", async () => {
  const privileged = createPrivileged(world.paths.helperSocket);
  await privileged.call("priv.create_tap", {
    tap: "tap-fc-doctor",
    bridge: "br-fc",
    guest_ip: "172.16.0.254",
  });
  await privileged.call("priv.ensure_nat", { guest_ip: "172.16.0.254", tap: "tap-fc-doctor", enable: true });
  // The pool's taps are remembered by a daemon that has VMs.
  await service.lifecycle.create(
    { name: "box", image: "debian", spec: { vcpu: 1, memoryMiB: 256 }, start: false },
    run,
  );
  service = await world.start();
  await Bun.sleep(50);
  const found = await findLeftovers(service.parts);
  expect(found.map(({ leftover }) => leftover)).toEqual([
    { kind: "rule", what: "NAT of 172.16.0.254 on tap-fc-doctor" },
    { kind: "tap", what: "tap-fc-doctor" },
  ]);
  await removeLeftovers(found);
  expect([world.host.taps.size, world.host.rules.size]).toEqual([0, 0]);
});

describe("the root helper", () => {
  test("of another version is to be restarted, and runs VMs", async () => {
    world.host.helperVersion = "0.0.9";
    expect(rowOf(await examine(), "root helper")).toEqual({
      check: "root helper",
      level: "WARN",
      message: `version 0.0.9, for uid 1000; the daemon is ${VERSION}`,
      fix: "sudo banger system restart",
    });
  });

  test("that doesn't answer is a failure, and the other rows are there all the same", async () => {
    await world.helper[Symbol.asyncDispose]();
    const rows = await examine();
    expect(rowOf(rows, "root helper")).toMatchObject({ level: "FAIL", fix: "banger system status" });
    expect(rowOf(rows, "leftovers")).toMatchObject({ level: "WARN" });
    expect(rowOf(rows, "root disks")).toMatchObject({ level: "PASS" });
    expect(rowOf(rows, "NAT")).toBeUndefined();
    expect(failuresOf(rows)).toEqual(["root helper"]);
  });
});

describe("NAT", () => {
  test("that somebody's rules end is a warning, with the fix", async () => {
    world.host.nat = { forwarded: false, dropped_by: "ufw", where: "iptables filter FORWARD" };
    expect(rowOf(await examine(), "NAT")).toMatchObject({ level: "WARN", fix: "sudo ufw route allow in on br-fc" });
    expect(world.host.list()).toEqual([]);
  });

  test.each(["priv.create_tap", "priv.probe_nat"])("that can't be tried since %s fails is a warning", async (verb) => {
    world.broken.add(verb);
    const rows = await examine();
    expect(rowOf(rows, "NAT")).toMatchObject({ level: "WARN", message: `could not be tested: ${verb} is broken` });
    expect(failuresOf(rows)).toEqual([]);
    expect(world.host.list()).toEqual([]);
  });

  test("without a way out says so", async () => {
    world.host.noUplink = new BangerError("NETWORK", "this host has no default route");
    expect(rowOf(await examine(), "NAT")).toMatchObject({
      level: "WARN",
      message: "this host has no default route",
      fix: expect.stringContaining("connect this host"),
    });
    expect(world.host.list()).toEqual([]);
  });

  test("without its program isn't tried", async () => {
    await startWith({ needs: { ...FACTS.needs, hasFile: (path) => !path.includes("iptables") } });
    expect(rowOf(await examine(), "NAT")).toEqual({
      check: "NAT",
      level: "WARN",
      message: "guests can't have --nat: iptables-save is not installed, iptables-restore is not installed",
      fix: "sudo apt install iptables",
    });
    expect(world.helper.calls.some(({ verb }) => verb === "priv.probe_nat")).toBe(false);
  });
});

describe("the guests' network", () => {
  test("that can't be made keeps VMs from running", async () => {
    world.broken.add("priv.ensure_bridge");
    const rows = await examine();
    expect(rowOf(rows, "network")).toMatchObject({
      level: "FAIL",
      message: "172.16.0.1/24 on br-fc; the bridge can't be made: priv.ensure_bridge is broken",
      fix: "sudo journalctl -u bangerd-root.service -n 20",
    });
    expect(rowOf(rows, "NAT")).toBeUndefined();
  });

  test("for want of a program says which", async () => {
    await startWith({ needs: { ...FACTS.needs, hasFile: (path) => !path.endsWith("/nft") } });
    world.broken.add("priv.ensure_bridge");
    expect(rowOf(await examine(), "network")).toMatchObject({ level: "FAIL", fix: "sudo apt install nftables" });
  });
});

test("names that nobody asks for are a warning, with what asks", async () => {
  await startWith({ needs: { ...FACTS.needs, hasFile: (path) => !path.endsWith("/resolvectl") } });
  expect(rowOf(await examine(), "names")).toMatchObject({ level: "WARN", fix: "sudo apt install systemd-resolved" });
});

test("a directory that others may enter, and a socket that is gone, are failures with the command that mends them", async () => {
  const { stateDir, apiSocket } = world.paths;
  await chmod(stateDir, 0o755);
  await rm(apiSocket);
  const rows = await examine();
  expect(failuresOf(rows)).toEqual([`mode ${apiSocket}`, `mode ${stateDir}`]);
  expect(rowOf(rows, `mode ${stateDir}`)?.fix).toBe(`chmod 700 ${stateDir}`);
  expect(rowOf(rows, `mode ${apiSocket}`)?.fix).toBe("sudo banger system restart");
});
