import { deepEqual, equal, match } from "node:assert/strict";
import type { Scenario } from "../scenario.ts";
import {
  bangerOk,
  BOOT_TIMEOUT_MS,
  ensureInstalledWithImage,
  ensureVm,
  inGuest,
  inventory,
  listVms,
} from "../support/guests.ts";
import { purge } from "../support/installed.ts";

export const scenario: Scenario = {
  name: "vm-reflink",
  summary: "with its state on XFS, a VM's root disk is a clone of the image's file: no dm device, loop or COW file",
  needs: ["banger", "firecracker", "image"],
  isLong: true,
  isolated: true,
  timeoutMs: 2 * BOOT_TIMEOUT_MS,
  async run(host) {
    await purge(host);
    await host.sh(`
      truncate -s 6G /srv/xfs.img
      mkfs.xfs -q -m reflink=1 /srv/xfs.img
      mkdir -p /var/lib/banger
      mount -o loop /srv/xfs.img /var/lib/banger
    `);
    await ensureInstalledWithImage(host);
    const vm = await ensureVm(host, "alpha");
    const { dm, loops, cow_files } = await inventory(host);
    deepEqual([dm, loops, cow_files], [[], [], []]);
    const disk = `/var/lib/banger/owner/vms/${vm.id}/root.ext4`;
    match(await host.ok(["filefrag", "-v", disk]), /\bshared\b/);

    await inGuest(host, "alpha", "echo kept > /etc/kept");
    await bangerOk(host, "vm", "stop", "alpha");
    await bangerOk(host, "vm", "start", "alpha");
    equal(await inGuest(host, "alpha", "cat /etc/kept"), "kept\n");
    await bangerOk(host, "vm", "delete", "alpha");
    deepEqual(await listVms(host), []);
    const { jails, scopes, slots } = await inventory(host);
    deepEqual([jails, scopes, slots], [[], [], []]);
    equal((await host.ok(["ls", "/var/lib/banger/owner/vms"])).trim(), "");
  },
};
