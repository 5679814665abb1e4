/**
 * What the installed system uses of the host, each thing once: the helper runs the programs by these paths, its unit loads the
 * kernel modules, and doctor looks for both.
 */

/** What stops working without a program or module. */
export const FEATURES = ["root disks", "jails", "bridge and taps", "NAT", "names"] as const;
export type Feature = (typeof FEATURES)[number];

export interface HelperTool {
  /** The first that exists is used. Directories that only root writes. */
  readonly paths: readonly string[];
  /** The package that has it, on Debian and Ubuntu. */
  readonly package: string;
  /** Null for what is only used where it is there. */
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
  // An accept of nft's comes past no drop of iptables, as Docker sets one.
  "iptables-save": { paths: ["/usr/sbin/iptables-save", "/sbin/iptables-save"], package: "iptables", feature: "NAT" },
  "iptables-restore": {
    paths: ["/usr/sbin/iptables-restore", "/sbin/iptables-restore"],
    package: "iptables",
    feature: "NAT",
  },
  // To remove what earlier versions wrote with it.
  ebtables: { paths: ["/usr/sbin/ebtables", "/sbin/ebtables"], package: "ebtables", feature: null },
  resolvectl: { paths: ["/usr/bin/resolvectl"], package: "systemd-resolved", feature: "names" },
  "systemd-run": { paths: ["/usr/bin/systemd-run"], package: "systemd", feature: "jails" },
} as const satisfies Readonly<Record<string, HelperTool>>;
export type HelperToolName = keyof typeof HELPER_TOOLS;

export interface KernelModule {
  readonly name: string;
  readonly feature: Feature;
  /**
   * Where the kernel tells that it has it, whether loaded or built in: a driver's name in /proc/devices or /proc/misc (proc(5)), or a
   * directory of /sys/module, which a built-in module has only when it takes parameters.
   */
  readonly evidence: { readonly file: "devices" | "misc"; readonly driver: string } | { readonly file: "module" };
}

/** Modules loaded before the helper starts, since its unit allows devices by the names of their drivers. KVM's are doctor's own row. */
export const KERNEL_MODULES: readonly KernelModule[] = [
  { name: "dm_mod", feature: "root disks", evidence: { file: "devices", driver: "device-mapper" } },
  { name: "dm_snapshot", feature: "root disks", evidence: { file: "module" } },
  { name: "loop", feature: "root disks", evidence: { file: "devices", driver: "loop" } },
  { name: "tun", feature: "bridge and taps", evidence: { file: "misc", driver: "tun" } },
];
