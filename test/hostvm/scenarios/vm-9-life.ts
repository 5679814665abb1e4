import { deepEqual, equal, match, notEqual } from "node:assert/strict";
import type { Scenario } from "../scenario.ts";
import {
  banger,
  bangerOk,
  BOOT_TIMEOUT_MS,
  ensureInstalledWithImage,
  ensureVm,
  inGuest,
  inventory,
  listVms,
  showVm,
} from "../support/guests.ts";

export const scenario: Scenario = {
  name: "vm-life",
  summary:
    "a VM under the jailer: create, exec and its statuses, stop keeps data, restart, kill, delete leaves nothing",
  needs: ["banger", "firecracker", "image"],
  timeoutMs: 3 * BOOT_TIMEOUT_MS,
  async run(host) {
    await ensureInstalledWithImage(host);
    for (const { name } of await listVms(host)) await bangerOk(host, "vm", "delete", name);
    const interfaces = async (): Promise<string> => await host.sh("ls /sys/class/net | grep -v '^br-fc$'");
    const before = await interfaces();

    const vm = await ensureVm(host, "alpha");
    equal(vm.state, "running");
    equal(
      (await inGuest(host, "alpha", "hostname; cat /proc/sys/kernel/random/boot_id")).trim(),
      `alpha\n${vm.bootId}`,
    );
    for (const [script, status] of [
      ["exit 0", 0],
      ["exit 42", 42],
      ["kill -TERM $$", 143],
      ["exec /no/such/program", 127],
    ] as const) {
      equal((await banger(host, "vm", "exec", "alpha", "--", "sh", "-c", script)).status, status, script);
    }

    // Each VMM is nobody: a uid of its own, no capability, a scope of its own outside both services.
    const status = await host.readFile(`/proc/${vm.pid}/status`);
    match(status, /^Uid:\t(19\d{8})\t\1\t\1\t\1$/m);
    match(status, /^CapEff:\t0+$/m);
    match(await host.readFile(`/proc/${vm.pid}/cgroup`), new RegExp(`/banger-vms\\.slice/banger-vm-${vm.id}\\.scope`));

    await inGuest(host, "alpha", "echo kept > /root/kept; echo kept > /etc/kept");
    await bangerOk(host, "vm", "stop", "alpha");
    equal((await showVm(host, "alpha")).state, "stopped");
    const stopped = await inventory(host);
    deepEqual([stopped.dm, stopped.loops, stopped.jails, stopped.scopes, stopped.nat_rules], [[], [], [], [], []]);
    deepEqual(
      stopped.cow_files.map(({ vm: id }) => id),
      [vm.id],
    );
    match(await bangerOk(host, "vm", "logs", "alpha"), /Restarting system/);

    await bangerOk(host, "vm", "start", "alpha");
    const again = await showVm(host, "alpha");
    notEqual(again.bootId, vm.bootId);
    equal(again.guestIp, vm.guestIp);
    equal(await inGuest(host, "alpha", "cat /root/kept /etc/kept"), "kept\nkept\n");

    match(await host.ok(["getent", "ahostsv4", "alpha.vm"]), new RegExp(`^${vm.guestIp.replaceAll(".", "\\.")} `));
    await bangerOk(host, "vm", "kill", "alpha");
    notEqual((await host.run(["getent", "hosts", "alpha.vm"])).status, 0);
    equal((await showVm(host, "alpha")).state, "stopped");
    deepEqual((await inventory(host)).dm, []);
    await bangerOk(host, "vm", "delete", "alpha");
    const { taps, dm, loops, mounts, jails, cow_files, nat_rules, scopes, slots } = await inventory(host);
    deepEqual(
      [taps, dm, loops, mounts, jails, cow_files, nat_rules, scopes, slots],
      Array.from({ length: 9 }, () => []),
    );
    equal(await interfaces(), before);
    equal((await bangerOk(host, "gc", "--dry-run", "--json")).trim(), "[]");
  },
};
