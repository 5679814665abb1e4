/** The one list of kernel arguments, each with its reason. Order doesn't matter; later words of a key win. */

import type { VmId, VmSpec } from "../../shared/schemas.ts";

/** The address every guest has in QEMU's user-mode network (its defaults: 10.0.2.0/24). */
export const USER_NETWORK = {
  guest: "10.0.2.15",
  gateway: "10.0.2.2",
  netmask: "255.255.255.0",
  dns: "10.0.2.3",
} as const;

interface BootArg {
  readonly word: string;
  readonly why: string;
}

/** 32 hex digits that the VM keeps for life (machine-id(5)). */
function machineId(id: VmId): string {
  return new Bun.CryptoHasher("sha256").update(`banger machine-id ${id}`).digest("hex").slice(0, 32);
}

export function bootArgs(vm: {
  readonly id: VmId;
  readonly name: string;
  readonly spec: VmSpec;
  readonly acceleration: "kvm" | "tcg";
  /** Rate of the host's time stamp counter; null when it isn't known. */
  readonly tscKhz: number | null;
}): readonly BootArg[] {
  const net = USER_NETWORK;
  return [
    { word: "root=/dev/vda", why: "the overlay is the first disk" },
    { word: "rw", why: "no read-only phase, no remount" },
    { word: "console=ttyS0", why: "the serial log is how a failed boot is understood" },
    { word: "quiet", why: "each line on the serial port is an exit; errors still print" },
    { word: "panic=-1", why: "a panicked guest ends at once, and QEMU with it (-no-reboot)" },
    { word: "reboot=t", why: "microvm has no keyboard controller; a triple fault is the reboot it knows" },
    { word: "net.ifnames=0", why: "one interface, named eth0, as ip= below says" },
    {
      word: `ip=${net.guest}::${net.gateway}:${net.netmask}::eth0:off:${net.dns}`,
      why: "address without a DHCP round trip, read by systemd-network-generator",
    },
    { word: `systemd.hostname=${vm.name}`, why: "identity without touching the image" },
    {
      word: `systemd.machine_id=${machineId(vm.id)}`,
      why: "a machine id of its own, without systemd's first-boot work",
    },
    { word: "systemd.show_status=0", why: "no unit list on the serial port" },
    { word: "audit=0", why: "nothing reads the audit log; each process start is cheaper" },
    { word: "random.trust_cpu=on", why: "no wait for entropy; the virtio generator adds the host's" },
    ...(vm.acceleration === "tcg"
      ? [
          { word: "mitigations=off", why: "under emulation nothing is speculated, and the workarounds cost a third" },
          { word: "tsc=reliable", why: "no watchdog that finds emulated time unsteady" },
          { word: "lsm=lockdown,yama", why: "loading systemd's BPF programs takes over a second of emulation" },
          ...(vm.tscKhz === null
            ? []
            : [
                {
                  word: `tsc_early_khz=${vm.tscKhz}`,
                  why: "on a busy host the guest can't measure it, and then waits forever for a timer that microvm doesn't wire",
                },
              ]),
          { word: "no_timer_check", why: "the timer check fails at random when the host is busy" },
        ]
      : []),
  ];
}
