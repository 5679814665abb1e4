import { deepEqual, equal, match } from "node:assert/strict";
import type { Scenario } from "../scenario.ts";
import { bangerOk, BOOT_TIMEOUT_MS, ensureVm, inGuest } from "../support/guests.ts";
import { BANGER, purge } from "../support/installed.ts";
import { differences, takeSnapshot } from "../support/snapshot.ts";

/** The host's own things, by names that banger's could have. */
const MAKE_LOOKALIKES = `
  ip link add br-fc-lan type bridge
  ip link add lan0 type dummy && ip link set lan0 master br-fc-lan
  ip tuntap add tap-fc-mine mode tap
  dmsetup create fc-rootfs-cccccccccccc --table "0 8 zero"
  nft add table inet bangers
  iptables -N BANGER-OTHER
  ip rule add pref 4300 iif br-fc-lan lookup main
`;
const REMOVE_LOOKALIKES = `
  for link in br-fc-lan lan0 tap-fc-mine; do ip link delete $link || true; done
  dmsetup remove --retry fc-rootfs-cccccccccccc || true
  nft delete table inet bangers || true
  iptables -X BANGER-OTHER || true
  ip rule del pref 4300 || true
`;
/** systemd keeps what it has once made of a slice, and kernels the modules that rules brought. */
const KEPT = /banger(?:-vms)?\.slice/;

export const scenario: Scenario = {
  name: "vm-uninstall",
  summary: "uninstall --force ends running VMs and leaves nothing of banger's; what is only named like it stays",
  needs: ["banger", "firecracker", "image"],
  timeoutMs: 2 * BOOT_TIMEOUT_MS,
  async run(host) {
    await purge(host);
    await host.sh(MAKE_LOOKALIKES);
    try {
      const before = await takeSnapshot(host);
      const vm = await ensureVm(host, "alpha");
      await bangerOk(host, "vm", "set", "alpha", "--nat");
      await inGuest(host, "alpha", "nohup sh -c 'while :; do date > /root/busy; sync; done' > /dev/null 2>&1 &");

      // What nobody of banger's owns isn't gc's to take.
      equal((await bangerOk(host, "gc", "--json")).trim(), "[]");
      const refused = await host.run([BANGER, "system", "uninstall"]);
      equal(refused.status, 24, refused.stderr);
      match(refused.stderr, /1 VM/);

      const uninstalled = await host.run([BANGER, "system", "uninstall", "--force", "--purge"], { timeoutMs: 240_000 });
      equal(uninstalled.status, 0, uninstalled.stdout + uninstalled.stderr);
      equal((await host.run(["test", "-d", `/proc/${vm.pid}`])).status, 1);
      deepEqual(
        differences(before, await takeSnapshot(host)).filter((line) => !KEPT.test(line)),
        [],
      );
    } finally {
      await host.sh(REMOVE_LOOKALIKES);
    }
  },
};
