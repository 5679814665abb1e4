/** Names that banger gives to what it makes on a host: each is made and read here. The firewall's are in `network/walls.ts`. Pure. */

/** A VM's id, wherever it stands in a name. */
const ID = "[0-9a-f]{12}";

/** Every dm device of this product is named after its VM, behind this. */
export const DM_PREFIX = "fc-rootfs-";
/** The VM's root disk. */
export const dmName = (vm: string): string => `${DM_PREFIX}${vm}`;
/** The image's loop, lengthened by zeros to what the guest is to see. */
export const dmBaseName = (vm: string): string => `${dmName(vm)}-base`;
const DM_NAME = new RegExp(`^${DM_PREFIX}(${ID})(?:-base)?$`);
/** The VM of a dm device; null for a name that isn't banger's. */
export const vmOfDm = (name: string): string | null => DM_NAME.exec(name)?.[1] ?? null;

export const BANGER_SLICE = "banger.slice";
export const VMS_SLICE = "banger-vms.slice";
/** systemd nests a slice by the hyphens of its name: systemd.slice(5). */
export const VMS_CGROUP = `/${BANGER_SLICE}/${VMS_SLICE}`;
export const scopeName = (vm: string): string => `banger-vm-${vm}.scope`;
/** Every VM's scope, as a pattern of systemctl. */
export const VM_SCOPES = scopeName("*");
const SCOPE_NAME = new RegExp(`^banger-vm-(${ID})\\.scope$`);
/** The VM of a scope; null for a name that isn't banger's. */
export const vmOfScope = (name: string): string | null => SCOPE_NAME.exec(name)?.[1] ?? null;

export const DEFAULT_BRIDGE = "br-fc";
/** Characters of an interface's name: IFNAMSIZ less its end, netdevice(7). */
const INTERFACE_NAME_LIMIT = 15;
const BRIDGE_NAME = new RegExp(`^${DEFAULT_BRIDGE}(?:-[a-z0-9](?:[a-z0-9-]*[a-z0-9])?)?$`);
export const isBridgeName = (name: string): boolean => name.length <= INTERFACE_NAME_LIMIT && BRIDGE_NAME.test(name);

/** 8 characters after the prefix are what an interface's 15 leave. */
const TAP_NAME = /^tap-(?:fc-[a-z0-9]{1,8}|pool-(0|[1-9]\d{0,5}))$/;
export const isTapName = (name: string): boolean => name.length <= INTERFACE_NAME_LIMIT && TAP_NAME.test(name);
/** The tap of the guest with that number in its network. */
export const poolTap = (number: number): string => `tap-pool-${number}`;
/** The guest's number; null for a name that isn't {@link poolTap}'s. */
export function numberOfPoolTap(name: string): number | null {
  const number = TAP_NAME.exec(name)?.[1];
  return number === undefined ? null : Number(number);
}
/** The tap of doctor's packet: no guest's, and there for a moment. */
export const PROBE_TAP = "tap-fc-doctor";
/** A rule against borrowed addresses that earlier versions wrote, as `ebtables -L` prints it: the words that delete it from its chain. */
export function parseEarlierSpoofRule(line: string): readonly string[] | null {
  const [, tap, address] =
    /^-p IPv4 -i ! (tap-(?:fc|pool)-[a-z0-9]+) --ip-src ([0-9.]+) -j DROP$/.exec(line.trim()) ?? [];
  if (tap === undefined || address === undefined) return null;
  return ["INPUT", "-p", "IPv4", "!", "-i", tap, "--ip-src", address, "-j", "DROP"];
}
