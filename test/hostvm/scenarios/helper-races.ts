import { deepEqual, equal, ok } from "node:assert/strict";
import type { Host } from "../host.ts";
import type { Scenario } from "../scenario.ts";
import { closeLab, drive, driverArgv, LAB, lookAtTreasure, openLab, TREASURE } from "../support/helper-lab.ts";
import { mainPid } from "../support/installed.ts";

/** The minimum time to race each verb that resolves one of the owner's names. */
const RACE_MS = 12_000;
const ATTACKER = "helper-race";
const TREASURE_SECTORS = 2048;

const { vm } = LAB;
const snapshot = ["create_dm_snapshot", { vm, image: "lab", root_bytes: 512 * 1024 * 1024 }] as const;
const launch = [
  "launch_firecracker",
  { vm, kernel: "lab", initrd: true, root: "snapshot", tap: null, vcpu: 1, memory_mib: 128 },
] as const;
const kill = ["kill_process", { vm }] as const;
const cleanUp = ["cleanup_jailer_chroot", { vm }] as const;

/**
 * Looks for a loop device of the treasure's size without pause until it is stopped. Prints `CAUGHT`, and how often it
 * looked.
 */
const WATCH_LOOPS = `
import glob, os, sys
rounds, caught = 0, 0
while not os.path.exists("/srv/lab/stop-watching"):
    rounds += 1
    for path in glob.glob("/sys/block/loop*/size"):
        try:
            if open(path).read().strip() == sys.argv[1]:
                caught += 1
        except OSError:
            pass
print(caught, rounds)
`;

/**
 * Counts the outcomes of each call while one process of the owner's swaps the names it resolves. Only one: a second
 * would overwrite what the first has put aside, and nothing would be left to swap.
 */
async function raceWith(
  host: Host,
  requests: readonly (readonly [string, unknown])[],
  until: readonly string[],
): Promise<Readonly<Record<string, number>>> {
  const argv = driverArgv("exchangeNames", { vm, treasure: TREASURE });
  await host.ok(["systemd-run", "--quiet", "--collect", "--uid=dev", "--unit", ATTACKER, "--", ...argv]);
  try {
    const counts = await drive(host, "hammer", { requests, until, durationMs: RACE_MS });
    host.note(JSON.stringify(counts));
    await host.ok(["systemctl", "is-active", "--quiet", ATTACKER]);
    return counts as Readonly<Record<string, number>>;
  } finally {
    await host.run(["systemctl", "stop", ATTACKER]);
    await host.sh(PUT_BACK, [vm]);
  }
}

/** Restores every name, wherever the attacker was stopped. */
const PUT_BACK = `
  state=/var/lib/banger/owner
  put_back() {
    for path; do
      [ -e $path.kept ] || continue
      [ -L $path ] || [ ! -f $path ] || mv $path $path.hard
      rm -rf $path
      mv $path.kept $path
    done
  }
  put_back $state/images/lab $state/kernels/lab $state/vms/$1
  put_back $state/images/lab/rootfs.ext4 $state/kernels/lab/vmlinux $state/vms/$1/work.ext4
  io=/var/lib/banger/jail/firecracker/$1/root/io
  [ ! -d $io ] || put_back $io/api.sock
`;

/** Renaming a second name, which the attacker may do, changes the file's change time. */
const withoutTimes = (look: string): string => look.replaceAll(/ \d+\.\d+$/gm, "");

export const scenario: Scenario = {
  name: "helper-races",
  summary:
    "links and renames in a loop, against every verb that resolves a name of the owner's, leave root's files unchanged",
  needs: ["banger", "firecracker"],
  isLong: true,
  timeoutMs: 15 * 60_000,
  async run(host) {
    await openLab(host);
    try {
      // Second names of root's files, which a kernel setting would keep the owner from making.
      await host.sh(
        `
        state=/var/lib/banger/owner
        ln ${TREASURE}/rootfs.ext4 $state/images/lab/rootfs.ext4.hard
        ln ${TREASURE}/vmlinux $state/kernels/lab/vmlinux.hard
        ln ${TREASURE}/work.ext4 $state/vms/$1/work.ext4.hard
        `,
        [vm],
      );
      deepEqual(await drive(host, "askAll", [snapshot, launch, kill, cleanUp]), ["ok", "ok", "ok", "ok"]);
      const [helper, treasure] = [await mainPid(host, "bangerd-root.service"), await lookAtTreasure(host)];

      const watching = host.ok(["python3", "-c", WATCH_LOOPS, String(TREASURE_SECTORS)], { timeoutMs: 300_000 });
      const outcomes = [
        await raceWith(host, [snapshot], ["create_dm_snapshot ok", "create_dm_snapshot HELPER_REFUSED"]),
      ];
      await host.ok(["touch", "/srv/lab/stop-watching"]);
      const [caught = NaN, rounds = 0] = (await watching).trim().split(" ").map(Number);
      equal(caught, 0, "a loop device held root's file");
      ok(rounds > 100, `the watcher looked ${rounds} times only`);

      deepEqual(await drive(host, "askAll", [snapshot]), ["ok"]);
      outcomes.push(await raceWith(host, [launch, kill, cleanUp], ["launch_firecracker HELPER_REFUSED"]));

      const bugs = outcomes.flatMap((counts) =>
        Object.keys(counts).filter((outcome) => /INTERNAL|CLOSED|INVALID_REQUEST/.test(outcome)),
      );
      deepEqual(bugs, []);
      equal(await mainPid(host, "bangerd-root.service"), helper, "the helper is another process now");
      equal(withoutTimes(await lookAtTreasure(host)), withoutTimes(treasure));
      await drive(host, "askAll", [kill, cleanUp]);
    } finally {
      await closeLab(host);
    }
  },
};
