import { deepEqual, equal, match, ok } from "node:assert/strict";
import type { Scenario } from "../scenario.ts";
import { closeLab, drive, LAB, openLab, REMOVE_WALLS } from "../support/helper-lab.ts";
import { hasSerialLog } from "../support/guests.ts";
import { GUEST_MARKER } from "../support/payload.ts";
import { differences, takeSnapshot } from "../support/snapshot.ts";

const JAIL = `/var/lib/banger/jail/firecracker/${LAB.vm}/root`;

/**
 * What a VM's life leaves on purpose: the kernel readable for VMs, empty parents of jails, slices; and changes that
 * come only from systemd's reload.
 */
const EXPECTED = /owner\/(?:vms|kernels\/lab)|jail\/firecracker d|banger(?:-vms)?\.slice|^[+-] unit-file/;

export const scenario: Scenario = {
  name: "helper-verbs",
  summary: "every verb of the root helper works, from the bridge to a booted guest in its jail and back to nothing",
  needs: ["banger", "firecracker"],
  timeoutMs: 15 * 60_000,
  async run(host) {
    await openLab(host);
    try {
      const before = await takeSnapshot(host);
      const started = (await drive(host, "live", LAB, "start")) as readonly (readonly [string, string])[];
      deepEqual(
        started.filter(([, outcome]) => outcome !== "ok"),
        [],
      );

      // The guest runs with its own uid, no capability, its own limits, and in its own scope.
      const isHeard = await hasSerialLog(host);
      for (const line of (await drive(host, "boot", LAB)) as readonly string[])
        if (isHeard || !line.startsWith("serial ")) match(line, / 204 $/);
      if (isHeard) await host.until("the guest's marker", `grep -q ${GUEST_MARKER} ${JAIL}/io/serial.log`, 120_000);
      const pid = (await host.ok(["pgrep", "-x", "firecracker"])).trim();
      const status = await host.readFile(`/proc/${pid}/status`);
      match(status, /^Uid:\t(2\d{9})\t\1\t\1\t\1$/m);
      match(status, /^Gid:\t(2\d{9})\t\1\t\1\t\1$/m);
      match(status, /^Groups:\s*$/m);
      match(status, /^CapEff:\t0{16}$/m);
      match(status, /^NoNewPrivs:\t1$/m);
      match(
        await host.readFile(`/proc/${pid}/cgroup`),
        new RegExp(`^0::/banger.slice/banger-vms.slice/banger-vm-${LAB.vm}.scope$`, "m"),
      );
      const limits = await host.ok([
        "systemctl",
        "show",
        `banger-vm-${LAB.vm}.scope`,
        "-p",
        "MemoryMax",
        "-p",
        "TasksMax",
      ]);
      match(limits, /MemoryMax=536870912/);
      match(limits, /TasksMax=36/);

      // It doesn't notice a restart or kill of the helper, and the next helper finds it.
      await host.sh("systemctl restart bangerd-root.service; systemctl kill --signal KILL bangerd-root.service");
      deepEqual(await drive(host, "askAll", [["find_firecracker_pid", { vm: LAB.vm }]]), ["ok"]);
      equal((await host.ok(["pgrep", "-x", "firecracker"])).trim(), pid);
      const inUse = (await drive(host, "askAll", [
        ["delete_tap", { tap: LAB.tap }],
        ["remove_dm_snapshot", { vm: LAB.vm, discard: true }],
        ["cleanup_jailer_chroot", { vm: LAB.vm }],
        ["release_vm", { vm: LAB.vm }],
      ])) as readonly string[];
      deepEqual(
        inUse.map((outcome) => outcome.split(":")[0]),
        inUse.map(() => "IN_USE"),
      );

      const ended = (await drive(host, "live", LAB, "end")) as readonly (readonly [string, string])[];
      deepEqual(
        ended.filter(([, outcome]) => outcome !== "ok"),
        [],
      );
      await host.sh(
        `rm -r /var/lib/banger/owner/vms/$1
         ip link delete $2
         ${REMOVE_WALLS}`,
        [LAB.vm, LAB.bridge],
      );
      deepEqual(await drive(host, "askAll", [["release_vm", { vm: LAB.vm }]]), ["ok"]);
      const left = differences(before, await takeSnapshot(host)).filter((line) => !EXPECTED.test(line));
      deepEqual(left, []);
      ok(started.length > 10);
    } finally {
      await closeLab(host);
    }
  },
};
