/**
 * What banger uses of the host, each thing once. The daemon looks for its owner's programs along PATH; the helper runs its own by
 * these paths; its unit loads the kernel modules; doctor looks for all of them. `scripts/prepare.sh` installs the packages.
 */

/** Where the Debian archive's public keys are on every Debian and Ubuntu. */
export const ARCHIVE_KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg";

/** What needs a program: every VM, a VM without root, an image build, one without root, a kernel's import. */
export type Need = "vm" | "rootless vm" | "image build" | "rootless image build" | "kernel import";

export interface OwnerTool {
  /** The package that has it, on Debian and Ubuntu. */
  readonly package: string;
  readonly purpose: string;
  readonly needs: readonly Need[];
}

/** Every program that isn't on each Debian anyway, by its name, and one file, by its path. In the order in which they are reported. */
export const OWNER_TOOLS = {
  "qemu-system-x86_64": { package: "qemu-system-x86", purpose: "runs VMs", needs: ["rootless vm"] },
  "qemu-img": { package: "qemu-utils", purpose: "makes root disks", needs: ["rootless vm"] },
  mmdebstrap: { package: "mmdebstrap", purpose: "builds images", needs: ["image build"] },
  "mkfs.ext4": { package: "e2fsprogs", purpose: "makes work disks", needs: ["vm", "image build"] },
  debugfs: { package: "e2fsprogs", purpose: "gives keys to VMs of older images", needs: ["vm"] },
  e2fsck: { package: "e2fsprogs", purpose: "checks new images", needs: ["vm"] },
  resize2fs: { package: "e2fsprogs", purpose: "sizes new images", needs: ["vm", "image build"] },
  xz: { package: "xz-utils", purpose: "unpacks packages and kernels", needs: ["image build", "kernel import"] },
  lz4: { package: "lz4", purpose: "unpacks kernels", needs: ["kernel import"] },
  newuidmap: { package: "uidmap", purpose: "gives a build its users", needs: ["rootless image build"] },
  [ARCHIVE_KEYRING]: {
    package: "debian-archive-keyring",
    purpose: "proves what a build downloads",
    needs: ["image build"],
  },
  ssh: { package: "openssh-client", purpose: "reaches guests", needs: ["vm"] },
  "ssh-keygen": { package: "openssh-client", purpose: "makes keys", needs: ["vm"] },
} as const satisfies Readonly<Record<string, OwnerTool>>;

/** Programs, or files, that something needs. */
export function toolsFor(...needs: readonly Need[]): readonly (OwnerTool & { readonly program: string })[] {
  return Object.entries(OWNER_TOOLS as Readonly<Record<string, OwnerTool>>)
    .filter(([, tool]) => tool.needs.some((need) => needs.includes(need)))
    .map(([program, tool]) => ({ program, ...tool }));
}

/** What stops working without a program or module. */
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
