/** The lists of kernel arguments, each with its reason. Order doesn't matter; later words of a key win. */

import type { VmId } from "../../shared/contract/schemas.ts";
import { AGENT_BOOT_ARG } from "../kernel/agent-archive.ts";

/** The address every guest has in QEMU's user-mode network (its defaults: 10.0.2.0/24). */
const USER_NETWORK = {
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

interface Guest {
  readonly id: VmId;
  readonly name: string;
  /** Whether there is an initrd, in which the agent is. */
  readonly hasInitrd: boolean;
}

/** What every guest is told, whatever runs it. */
function commonArgs({ id, name, hasInitrd }: Guest): readonly BootArg[] {
  return [
    ...(hasInitrd ? [{ word: AGENT_BOOT_ARG, why: "the agent boots the guest" }] : []),
    { word: "root=/dev/vda", why: "the root disk is the first one" },
    { word: "rw", why: "no read-only phase, no remount" },
    { word: "console=ttyS0", why: "the serial log is how a failed boot is understood" },
    { word: "quiet", why: "each line on the serial port is an exit; errors still print" },
    { word: "net.ifnames=0", why: "one interface, named eth0, as ip= says" },
    { word: `systemd.hostname=${name}`, why: "identity without touching the image" },
    {
      word: `systemd.machine_id=${machineId(id)}`,
      why: "a machine id of its own, without systemd's first-boot work",
    },
    { word: "systemd.show_status=0", why: "no unit list on the serial port" },
    { word: "audit=0", why: "nothing reads the audit log; each process start is cheaper" },
    { word: "random.trust_cpu=on", why: "no wait for entropy; the virtio generator adds the host's" },
  ];
}

/** What a guest is told whose processor is emulated, at whatever level. */
const emulationArgs: readonly BootArg[] = [
  { word: "mitigations=off", why: "under emulation nothing is speculated, and the workarounds cost a third" },
  { word: "tsc=reliable", why: "no watchdog that finds emulated time unsteady" },
  { word: "lsm=lockdown,yama", why: "loading systemd's BPF programs takes over a second of emulation" },
  { word: "no_timer_check", why: "the timer check fails at random when the host is busy" },
];

/** Arguments under QEMU's microvm machine. */
export function bootArgs(
  vm: Guest & {
    readonly acceleration: "kvm" | "tcg";
    /** Rate of the host's time stamp counter; null when it isn't known. */
    readonly tscKhz: number | null;
  },
): readonly BootArg[] {
  const net = USER_NETWORK;
  return [
    ...commonArgs(vm),
    { word: "panic=-1", why: "a panicked guest ends at once, and QEMU with it (-no-reboot)" },
    { word: "reboot=t", why: "microvm has no keyboard controller; a triple fault is the reboot it knows" },
    {
      word: `ip=${net.guest}::${net.gateway}:${net.netmask}::eth0:off:${net.dns}`,
      why: "address without a DHCP round trip, read by the agent",
    },
    ...(vm.acceleration === "tcg"
      ? [
          ...emulationArgs,
          ...(vm.tscKhz === null
            ? []
            : [
                {
                  word: `tsc_early_khz=${vm.tscKhz}`,
                  why: "on a busy host the guest can't measure it, and then waits forever for a timer that microvm doesn't wire",
                },
              ]),
        ]
      : []),
  ];
}

/** A guest's place on the bridge. Addresses dotted; the name server is null where the host has none that guests reach. */
export interface BridgeAddress {
  readonly guest: string;
  readonly gateway: string;
  readonly netmask: string;
  readonly nameServer: string | null;
}

/**
 * Arguments under Firecracker. Passing any drops its own defaults (docs/getting-started.md, boot_source.rs), so those worth
 * having are here again; `nomodule` isn't: a distribution's kernel is made of modules.
 */
export function firecrackerBootArgs(
  vm: Guest & {
    readonly network: BridgeAddress;
    /** Whether the host's own processor is emulated. */
    readonly isEmulated: boolean;
  },
): readonly BootArg[] {
  const { guest, gateway, netmask, nameServer } = vm.network;
  return [
    ...commonArgs(vm),
    { word: "reboot=k", why: "the reset that Firecracker's keyboard controller knows; it ends the VMM" },
    { word: "panic=1", why: "a panicked guest ends after a second, its last words written" },
    { word: "pci=off", why: "there is no PCI bus to look for" },
    { word: "i8042.noaux", why: "no mouse to probe for" },
    { word: "i8042.nomux", why: "no multiplexed keyboards to probe for" },
    { word: "i8042.dumbkbd", why: "no keyboard lights to set; the keyboard stays, SendCtrlAltDel needs it" },
    { word: "8250.nr_uarts=1", why: "one serial port; more would be probed" },
    { word: "swiotlb=noforce", why: "no bounce buffers: every device reaches all of the guest's memory" },
    {
      word: `ip=${guest}::${gateway}:${netmask}::eth0:off:${nameServer ?? ""}`,
      why: "address without a DHCP round trip, read by the agent",
    },
    { word: "banger.vsock=1", why: "sshd on vsock too, which works when the guest's network doesn't" },
    ...(vm.isEmulated ? emulationArgs : []),
  ];
}
