import { deepEqual, equal } from "node:assert/strict";
import type { Scenario } from "../scenario.ts";
import {
  bangerOk,
  BOOT_TIMEOUT_MS,
  ensureVm,
  type GuestVm,
  inGuest,
  inventory,
  listVms,
  showVm,
} from "../support/guests.ts";
import { mainPid } from "../support/installed.ts";

const UNITS = ["bangerd.service", "bangerd-root.service"] as const;

export const scenario: Scenario = {
  name: "vm-survival",
  summary:
    "kill -9, restart and stop of either daemon or both change no VM's process or boot id; the new daemons take them over",
  needs: ["banger", "firecracker", "image"],
  timeoutMs: 4 * BOOT_TIMEOUT_MS,
  async run(host) {
    const names = ["alpha", "beta", "gamma"];
    const before: GuestVm[] = [];
    for (const name of names) before.push(await ensureVm(host, name));
    const identity = (vm: GuestVm): unknown => [vm.name, vm.state, vm.pid, vm.bootId];
    const expectSame = async (after: string): Promise<void> => {
      deepEqual((await listVms(host)).map(identity), before.map(identity), after);
      for (const { pid } of before) await host.ok(["test", "-d", `/proc/${pid}`]);
    };
    const bootIdOf = async (name: string): Promise<string> =>
      (await inGuest(host, name, "cat /proc/sys/kernel/random/boot_id")).trim();

    for (const unit of UNITS) {
      await host.ok(["kill", "-9", String(await mainPid(host, unit))]);
      await host.until(`${unit} is back`, `systemctl is-active --quiet ${unit}`, 120_000);
      await expectSame(`${unit} killed`);
    }
    await host.ok(["kill", "-9", ...(await Promise.all(UNITS.map(async (unit) => String(await mainPid(host, unit)))))]);
    await host.until("both are back", `systemctl is-active --quiet ${UNITS.join(" ")}`, 120_000);
    await expectSame("both killed");
    await host.ok(["systemctl", "restart", ...UNITS], { timeoutMs: 240_000 });
    await expectSame("both restarted");
    for (const unit of UNITS) {
      await host.ok(["systemctl", "stop", unit], { timeoutMs: 240_000 });
      for (const { pid } of before) await host.ok(["test", "-d", `/proc/${pid}`]);
      await host.ok(["systemctl", "start", unit], { timeoutMs: 240_000 });
    }
    await expectSame("each stopped and started");
    for (const vm of before) equal(await bootIdOf(vm.name), vm.bootId);

    // Taking over means more than listing: the daemon that found a VM can stop it.
    await bangerOk(host, "vm", "stop", "gamma");
    equal((await showVm(host, "gamma")).state, "stopped");
    await bangerOk(host, "vm", "delete", "beta", "gamma");
    const { scopes, jails, cow_files } = await inventory(host);
    const alpha = before[0]?.id;
    deepEqual([scopes.map(({ vm }) => vm), jails, cow_files.map(({ vm }) => vm)], [[alpha], [alpha], [alpha]]);
  },
};
