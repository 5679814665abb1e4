import { equal, ok } from "node:assert/strict";
import type { Scenario } from "../scenario.ts";
import { closeLab, drive, driverArgv, LAB, lookAtTreasure, openLab, TREASURE } from "../support/helper-lab.ts";

const { vm } = LAB;
/** Each round of calls runs at least this long. */
const RACE_MS = 12_000;
const snapshot = ["create_dm_snapshot", { vm, image: "lab", root_bytes: 512 * 1024 * 1024 }] as const;
const launch = [
  "launch_firecracker",
  { vm, kernel: "lab", initrd: false, root: "snapshot", tap: null, vcpu: 1, memory_mib: 128 },
] as const;

/** Verbs that resolve a path which the owner may exchange. */
const ROUNDS: readonly (readonly (readonly [string, unknown])[])[] = [
  [snapshot, ["remove_dm_snapshot", { vm, discard: true }]],
  [snapshot, launch, ["ensure_socket_access", { vm }], ["kill_process", { vm }], ["cleanup_jailer_chroot", { vm }]],
];

export const scenario: Scenario = {
  name: "helper-races",
  summary: "names exchanged for links in a tight loop while the helper resolves them: root's files are never touched",
  needs: ["banger", "firecracker"],
  timeoutMs: 15 * 60_000,
  async run(host) {
    await openLab(host);
    const treasure = await lookAtTreasure(host);
    try {
      // Hard links of files that are root's, which an owner may find in a directory of its own and move about.
      await host.sh(
        `
        state=/var/lib/banger/owner
        cp -a /srv/lab/copy $state/copy
        ln $state/copy/rootfs.ext4 $state/images/lab/rootfs.ext4.hard
        ln $state/copy/vmlinux $state/kernels/lab/vmlinux.hard
        ln $state/copy/work.ext4 $state/vms/$1/work.ext4.hard
        `,
        [vm],
      );
      // Loops are watched from outside: one that holds root's file, however briefly, is a failure.
      await host.sh(
        `
        systemd-run --quiet --unit lab-attacker --uid dev -- "$@"
        cat > /srv/lab/watch.sh << 'END'
while :; do
  for size in /sys/block/loop*/size; do
    read -r sectors < $size
    [ "$sectors" != 2048 ] || echo "a loop holds root's file" >> /srv/lab/caught
  done
done
END
        systemd-run --quiet --unit lab-watcher --nice 19 -- bash /srv/lab/watch.sh
        `,
        [...driverArgv("exchangeNames", { vm, treasure: TREASURE })],
      );
      for (const requests of ROUNDS) {
        const counts = (await drive(host, "hammer", { requests, durationMs: RACE_MS })) as Readonly<
          Record<string, number>
        >;
        host.note(JSON.stringify(counts));
        // The race was one: calls that found the owner's file, and calls that found something else.
        ok(
          Object.keys(counts).some((key) => key.endsWith(" HELPER_REFUSED")),
          "no call was ever refused",
        );
        ok(
          Object.keys(counts).some((key) => key.endsWith("snapshot ok")),
          "no call ever went through",
        );
        ok(!Object.keys(counts).some((key) => / (?:INTERNAL|CLOSED)$/.test(key)), JSON.stringify(counts));
      }
      equal((await host.run(["systemctl", "is-active", "lab-attacker", "lab-watcher"])).stdout, "active\nactive\n");
      equal(await lookAtTreasure(host), treasure);
      equal(await host.sh("cat /srv/lab/caught 2> /dev/null || true"), "");
      equal(
        await host.sh(
          "cd /var/lib/banger/owner/copy; stat -c '%n %U %a %s' *; sha256sum *; getfacl -p . 2> /dev/null | grep user:1 || true",
        ),
        await host.sh("cd /srv/lab/copy; stat -c '%n %U %a %s' *; sha256sum *"),
      );
    } finally {
      await host.sh(
        "systemctl stop lab-attacker lab-watcher 2> /dev/null || true; systemctl reset-failed 'lab-*' 2> /dev/null || true; rm -rf /var/lib/banger/owner/copy",
      );
      await closeLab(host);
    }
  },
};
