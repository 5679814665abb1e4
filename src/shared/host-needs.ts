/**
 * What the installed system needs from the host, each thing listed once: the helper runs the programs by these paths,
 * its unit loads the kernel modules, and `doctor` checks both.
 */

/** What stops working if a program or module is missing. */
export const FEATURES = ["root disks", "jails", "bridge and taps", "NAT", "names"] as const;
export type Feature = (typeof FEATURES)[number];

export interface HelperTool {
  /** Candidate paths; the first that exists is used. Only root may write their directories. */
  readonly paths: readonly string[];
  /** The Debian and Ubuntu package that contains it. */
  readonly package: string;
  /** Null if the program is optional. */
  readonly feature: Feature | null;
}

/** Every program the root helper runs. */
export const HELPER_TOOLS = {
  ip: { paths: ["/usr/sbin/ip", "/usr/bin/ip", "/sbin/ip"], package: "iproute2", feature: "bridge and taps" },
  bridge: {
    paths: ["/usr/sbin/bridge", "/usr/bin/bridge", "/sbin/bridge"],
    package: "iproute2",
    feature: "bridge and taps",
  },
  nft: { paths: ["/usr/sbin/nft", "/usr/bin/nft", "/sbin/nft"], package: "nftables", feature: "bridge and taps" },
  // An accept in nft doesn't override a drop in iptables, such as Docker's.
  "iptables-save": { paths: ["/usr/sbin/iptables-save", "/sbin/iptables-save"], package: "iptables", feature: "NAT" },
  "iptables-restore": {
    paths: ["/usr/sbin/iptables-restore", "/sbin/iptables-restore"],
    package: "iptables",
    feature: "NAT",
  },
  // Used to remove rules of earlier versions.
  ebtables: { paths: ["/usr/sbin/ebtables", "/sbin/ebtables"], package: "ebtables", feature: null },
  resolvectl: { paths: ["/usr/bin/resolvectl"], package: "systemd-resolved", feature: "names" },
  "systemd-run": { paths: ["/usr/bin/systemd-run"], package: "systemd", feature: "jails" },
} as const satisfies Readonly<Record<string, HelperTool>>;
export type HelperToolName = keyof typeof HELPER_TOOLS;

export interface KernelModule {
  readonly name: string;
  readonly feature: Feature;
  /**
   * How to tell that the kernel has it, loaded or built in: a driver's name in /proc/devices or /proc/misc (proc(5)),
   * or a directory in /sys/module, which a built-in module has only if it takes parameters.
   */
  readonly evidence: { readonly file: "devices" | "misc"; readonly driver: string } | { readonly file: "module" };
}

/**
 * Modules loaded before the helper starts, because its unit allows devices by their drivers' names. `doctor` checks
 * KVM's modules separately.
 */
export const KERNEL_MODULES: readonly KernelModule[] = [
  { name: "dm_mod", feature: "root disks", evidence: { file: "devices", driver: "device-mapper" } },
  { name: "dm_snapshot", feature: "root disks", evidence: { file: "module" } },
  { name: "loop", feature: "root disks", evidence: { file: "devices", driver: "loop" } },
  { name: "tun", feature: "bridge and taps", evidence: { file: "misc", driver: "tun" } },
];
