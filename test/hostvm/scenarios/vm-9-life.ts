import { deepEqual, equal, match, notEqual } from "node:assert/strict";
import { eventually } from "../../support/banger.ts";
import type { Scenario } from "../scenario.ts";
import { differences, takeSnapshot } from "../support/snapshot.ts";
import { LOOSEST, loosestOfVm, watchModes } from "../support/mode-watch.ts";
import {
  askHelper,
  banger,
  bangerOk,
  BOOT_TIMEOUT_MS,
  ensureInstalledWithImage,
  ensureVm,
  hasSerialLog,
  inGuest,
  inventory,
  listVms,
  openSsh,
  showVm,
} from "../support/guests.ts";

/** Things of the host, as opposed to banger's own files. */
const HOST = /^[+-] (?:link|address|route|rule|dm|loop|mount|process|cgroup|unit) /;
/** systemd keeps the VMs' slice after its last scope is gone. */
const SLICES = /banger(?:-vms)?\.slice/;

export const scenario: Scenario = {
  name: "vm-life",
  summary:
    "a VM under the jailer: create, exec and its statuses, stop (keeps data), restart, reboot, kill, delete (leaves nothing)",
  needs: ["banger", "firecracker", "image"],
  timeoutMs: 4 * BOOT_TIMEOUT_MS,
  async run(host) {
    await ensureInstalledWithImage(host);
    for (const { name } of await listVms(host)) await bangerOk(host, "vm", "delete", name);
    // The bridge and its walls are made for the first VM and stay until uninstall.
    await askHelper(host, "priv.ensure_bridge", { bridge: "br-fc", ip: "172.16.0.1", prefix: 24 });
    const before = await takeSnapshot(host);

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

    // Each VMM has its own uid, no capability, and its own scope outside both services.
    const status = await host.readFile(`/proc/${vm.pid}/status`);
    match(status, /^Uid:\t(2\d{9})\t\1\t\1\t\1$/m);
    match(status, /^CapEff:\t0+$/m);
    match(await host.readFile(`/proc/${vm.pid}/cgroup`), new RegExp(`/banger-vms\\.slice/banger-vm-${vm.id}\\.scope`));

    await inGuest(host, "alpha", "echo kept > /root/kept; echo kept > /etc/kept");
    const loosest = { ...LOOSEST, ...loosestOfVm(vm.id) };
    const stopping = await watchModes(host, async () => void (await bangerOk(host, "vm", "stop", "alpha")), loosest);
    deepEqual(stopping.bad, [], "something private was open for a moment while it stopped");
    equal((await showVm(host, "alpha")).state, "stopped");
    const stopped = await inventory(host);
    deepEqual([stopped.dm, stopped.loops, stopped.jails, stopped.scopes, stopped.nat_rules], [[], [], [], [], []]);
    deepEqual(
      stopped.cow_files.map(({ vm: id }) => id),
      [vm.id],
    );
    const isHeard = await hasSerialLog(host);
    if (isHeard) match(await bangerOk(host, "vm", "logs", "alpha"), /Restarting system/);

    const start = async (): Promise<void> => {
      await bangerOk(host, "vm", "start", "alpha");
      await openSsh(host, "alpha");
    };
    const starting = await watchModes(host, start, loosest, BOOT_TIMEOUT_MS);
    deepEqual(starting.bad, [], "something private was open for a moment while it started");
    deepEqual(starting.seen, Object.keys(loosest).sort());
    const again = await showVm(host, "alpha");
    notEqual(again.bootId, vm.bootId);
    equal(again.guestIp, vm.guestIp);
    equal(await inGuest(host, "alpha", "cat /root/kept /etc/kept"), "kept\nkept\n");

    // A reboot in the guest ends its VMM; the daemon starts the VM again, unchanged. Its console shows that it was a
    // reboot.
    if (isHeard) {
      await inGuest(host, "alpha", "nohup sh -c 'sleep 1; reboot' > /dev/null 2>&1 &");
      await eventually("alpha is back after its reboot", BOOT_TIMEOUT_MS, async () => {
        const { state, bootId } = await showVm(host, "alpha");
        return state === "running" && bootId !== null && bootId !== again.bootId;
      });
      equal((await showVm(host, "alpha")).guestIp, vm.guestIp);
      equal(await inGuest(host, "alpha", "cat /root/kept"), "kept\n");
    }

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
    deepEqual(
      differences(before, await takeSnapshot(host)).filter((line) => HOST.test(line) && !SLICES.test(line)),
      [],
    );
    equal((await bangerOk(host, "gc", "--dry-run", "--json")).trim(), "[]");
  },
};
