import { deepEqual } from "node:assert/strict";
import type { Scenario } from "../scenario.ts";
import { closeLab, drive, LAB, openLab } from "../support/helper-lab.ts";

const { vm, bridge, tap } = LAB;
const snapshot = ["create_dm_snapshot", { vm, image: "lab", root_bytes: 512 * 1024 * 1024 }] as const;
const launch = [
  "launch_firecracker",
  { vm, kernel: "lab", initrd: false, root: "snapshot", tap: null, vcpu: 1, memory_mib: 128 },
] as const;

/**
 * For each capability, a verb that must fail without it. Nothing is known to need a capability that is missing here.
 */
const NEEDED_BY: Readonly<Record<string, readonly [string, unknown]>> = {
  cap_chown: launch,
  cap_dac_override: snapshot,
  cap_fowner: launch,
  cap_kill: ["signal_process", { vm, signal: "USR1" }],
  cap_mknod: launch,
  cap_net_admin: ["ensure_bridge", { bridge, ip: "172.29.7.1", prefix: 24 }],
  cap_setgid: launch,
  cap_setuid: launch,
  cap_sys_admin: snapshot,
};
const DROP_IN = "/etc/systemd/system/bangerd-root.service.d/capabilities.conf";

export const scenario: Scenario = {
  name: "helper-capabilities",
  summary: "the helper needs each of its capabilities: without any one of them some verb fails",
  needs: ["banger", "firecracker"],
  isLong: true,
  timeoutMs: 15 * 60_000,
  async run(host) {
    await openLab(host);
    try {
      const granted = (
        await host.ok(["systemctl", "show", "--value", "-p", "CapabilityBoundingSet", "bangerd-root.service"])
      )
        .trim()
        .split(" ");
      deepEqual(granted.toSorted(), Object.keys(NEEDED_BY).toSorted());
      const limit = async (capabilities: readonly string[]): Promise<void> => {
        await host.sh("mkdir -p ${1%/*}; systemctl stop bangerd-root.service", [DROP_IN]);
        await host.writeFile(
          DROP_IN,
          `[Service]\nCapabilityBoundingSet=\nCapabilityBoundingSet=${capabilities.join(" ")}\n`,
          0o644,
        );
        await host.sh("systemctl daemon-reload; systemctl start bangerd-root.service");
      };
      await drive(host, "askAll", [
        ["ensure_bridge", { bridge, ip: "172.29.7.1", prefix: 24 }],
        ["create_tap", { tap, bridge, guest_ip: "172.29.7.2" }],
        snapshot,
      ]);

      const unneeded: string[] = [];
      for (const capability of granted) {
        const needed = NEEDED_BY[capability] ?? ["ping", {}];
        // A signal needs a process to receive it, which is started with the full set.
        if (needed[0] === "signal_process") deepEqual(await drive(host, "askAll", [launch]), ["ok"]);
        await limit(granted.filter((other) => other !== capability));
        const [outcome = ""] = (await drive(host, "askAll", [needed])) as readonly string[];
        host.note(`without ${capability}: ${needed[0]}: ${outcome}`);
        if (outcome === "ok") unneeded.push(capability);
        await limit(granted);
        await drive(host, "askAll", [["kill_process", { vm }], ["cleanup_jailer_chroot", { vm }], snapshot]);
      }
      deepEqual(unneeded, []);
    } finally {
      await host.sh("rm -rf ${1%/*}; systemctl daemon-reload; systemctl restart bangerd-root.service", [DROP_IN]);
      await closeLab(host);
    }
  },
};
