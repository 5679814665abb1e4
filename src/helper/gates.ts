/**
 * Every rule the helper enforces, once: pure predicates on what a caller sent and on facts read through descriptors.
 * Each states its rule and the attack it prevents; `docs/privileges.md` prints the same text.
 */

import { BangerError } from "../shared/errors.ts";
import { isBridgeName, isTapName } from "../shared/host-names.ts";
import { SIGNALS } from "../shared/contract/helper-api.ts";
import { INTERFACE_BOUNDS, readMark } from "../shared/network/walls.ts";
import {
  contains,
  LOOPBACK_BLOCK,
  overlaps,
  parseIpv4,
  parseSubnet,
  PRIVATE_BLOCKS,
  type Subnet,
  subnetOf,
} from "../shared/network/ipv4.ts";

/** Null if accepted, otherwise the reason for refusing. */
export type Verdict = string | null;

export interface Gate<Facts> {
  /** What must be true, as printed in the documentation. */
  readonly rule: string;
  /** The attack it prevents. */
  readonly stops: string;
  readonly check: (facts: Facts) => Verdict;
}

/** @throws BangerError HELPER_REFUSED with the gate's reason. */
export function enforce<Facts>(gate: Gate<Facts>, facts: Facts): void {
  const verdict = gate.check(facts);
  if (verdict !== null) throw new BangerError("HELPER_REFUSED", verdict);
}

export const bridgeName: Gate<{ readonly bridge: string }> = {
  rule: "the bridge is `br-fc` or `br-fc-…`, at most 15 characters",
  stops: "bringing up, re-addressing or rerouting eth0, docker0 or lo",
  check: ({ bridge }) => (isBridgeName(bridge) ? null : `${bridge} is not the name of a banger bridge`),
};

export const tapName: Gate<{ readonly tap: string }> = {
  rule: "the tap is `tap-fc-…` or `tap-pool-N`",
  stops: "taking over or deleting an interface of the host",
  check: ({ tap }) => (isTapName(tap) ? null : `${tap} is not the name of a banger tap`),
};

export const optionalTapName: Gate<{ readonly tap: string | null }> = {
  ...tapName,
  check: ({ tap }) => (tap === null ? null : tapName.check({ tap })),
};

export const bridgeAddress: Gate<{ readonly ip: string; readonly prefix: number }> = {
  rule: "the address is a private IPv4 address (RFC 1918), the prefix is 8 to 32, and the whole subnet is private",
  stops: "claiming public addresses, or widening the subnet over another network",
  check: ({ ip, prefix }) => {
    const address = parseIpv4(ip);
    if (address === null) return `${ip} is not an IPv4 address`;
    if (!Number.isInteger(prefix) || prefix < 8 || prefix > 32) return `the prefix ${prefix} is not between 8 and 32`;
    const subnet = subnetOf(address, prefix);
    if (!PRIVATE_BLOCKS.some((block) => contains(block, subnet.first) && contains(block, subnet.last))) {
      return `${ip}/${prefix} is not entirely private`;
    }
    if (prefix <= 30 && (address === subnet.first || address === subnet.last)) {
      return `${ip} is the network or broadcast address of its /${prefix}`;
    }
    return null;
  },
};

/** An address or route of the host, such as `172.17.0.0/16` on `docker0`. */
export interface HostRoute {
  readonly destination: string;
  readonly device: string;
}

export const subnetFree: Gate<{
  readonly ip: string;
  readonly prefix: number;
  readonly bridge: string;
  readonly routes: readonly HostRoute[];
}> = {
  rule: "no other interface has an address or route in the subnet",
  stops: "redirecting traffic for the LAN, a VPN or containers to the guests' bridge",
  check: ({ ip, prefix, bridge, routes }) => {
    const subnet = parseSubnet(`${ip}/${prefix}`);
    if (subnet === null) return `${ip}/${prefix} is not a subnet`;
    const taken = routes.find(({ destination, device }) => {
      if (device === bridge) return false;
      const other = parseSubnet(destination);
      return other !== null && overlaps(subnet, other);
    });
    return taken === undefined ? null : `${ip}/${prefix} overlaps ${taken.destination} on ${taken.device}`;
  },
};

/** What the kernel reports about an interface. */
export interface InterfaceFacts {
  readonly name: string;
  /** `bridge` or `tun`; null for any other kind. */
  readonly kind: string | null;
  /** `tap` or `tun` if the kind is `tun`, else null. */
  readonly tunType: string | null;
  readonly master: string | null;
  /** The interface's alias, which marks the interfaces that banger made. */
  readonly alias: string;
}

export const realBridge: Gate<{ readonly link: InterfaceFacts; readonly ports: readonly string[] }> = {
  rule: "the interface is a bridge with banger's alias, and every port of it is a banger tap",
  stops: "using a renamed interface, or bridging guests into the LAN through a port that the bridge already has",
  check: ({ link, ports }) => {
    if (link.kind !== "bridge") return `${link.name} is not a bridge`;
    const foreign = ports.find((port) => !isTapName(port));
    if (foreign !== undefined) return `${link.name} has a port that is not a banger tap: ${foreign}`;
    return readMark(link.alias)?.kind === "bridge" ? null : `${link.name} was not made by banger`;
  },
};

export const realTap: Gate<{ readonly link: InterfaceFacts }> = {
  rule: "the interface is a tap with banger's alias, on a banger bridge or on none",
  stops: "deleting or handing out a host interface that was renamed to match",
  check: ({ link }) => {
    if (link.kind !== "tun" || link.tunType !== "tap") return `${link.name} is not a tap`;
    if (link.master !== null && !isBridgeName(link.master)) return `${link.name} is a port of ${link.master}`;
    return readMark(link.alias)?.kind === "tap" ? null : `${link.name} was not made by banger`;
  },
};

export const roomForInterface: Gate<{ readonly kind: keyof typeof INTERFACE_BOUNDS; readonly there: number }> = {
  rule: `at most ${INTERFACE_BOUNDS.bridge} bridges and ${INTERFACE_BOUNDS.tap} taps`,
  stops: "filling the kernel with interfaces and the rules each one adds",
  check: ({ kind, there }) =>
    there < INTERFACE_BOUNDS[kind] ? null : `banger already has ${there} ${kind}s, the maximum`,
};

export const tapsGuest: Gate<{ readonly link: InterfaceFacts; readonly guest_ip: string }> = {
  rule: "the tap was made for that address",
  stops: "giving NAT to an address that the tap's wall doesn't enforce",
  check: ({ link, guest_ip }) =>
    readMark(link.alias)?.guestIp === guest_ip ? null : `${link.name} was not made for ${guest_ip}`,
};

export const guestAddress: Gate<{ readonly guest_ip: string }> = {
  rule: "the guest's address is a private IPv4 address",
  stops: "rule injection: only an address reaches nft",
  check: ({ guest_ip }) => {
    const address = parseIpv4(guest_ip);
    if (address === null) return `${guest_ip} is not an IPv4 address`;
    return PRIVATE_BLOCKS.some((block) => contains(block, address)) ? null : `${guest_ip} is not private`;
  },
};

export const guestInSubnet: Gate<{
  readonly guest_ip: string;
  readonly bridge: string;
  readonly addresses: readonly string[];
}> = {
  rule: "the guest's address is in the subnet of the tap's bridge, and is not the bridge's own",
  stops: "masquerading or forwarding for arbitrary hosts",
  check: ({ guest_ip, bridge, addresses }) => {
    const guest = parseIpv4(guest_ip);
    const own = addresses.some((text) => parseIpv4(text.split("/")[0] ?? "") === guest);
    const subnets = addresses.map(parseSubnet).filter((subnet): subnet is Subnet => subnet !== null);
    if (guest === null || own || !subnets.some((subnet) => contains(subnet, guest))) {
      return `${guest_ip} is not a guest address on ${bridge}`;
    }
    return null;
  },
};

/** Splits a resolver given as `IP` or `IP:port`; null if it is neither. */
function parseResolver(text: string): { readonly ip: string; readonly port: number } | null {
  const [ip = "", port = "53", ...more] = text.split(":");
  if (more.length > 0 || parseIpv4(ip) === null || !/^[1-9]\d{0,4}$/.test(port) || Number(port) > 65535) return null;
  return { ip, port: Number(port) };
}

export const resolverAddress: Gate<{ readonly resolver: string }> = {
  rule: "the resolver is `IP` or `IP:port`",
  stops: "passing an option or a second server to resolvectl",
  check: ({ resolver }) => (parseResolver(resolver) === null ? `${resolver} is not IP or IP:port` : null),
};

export const resolverIsOurs: Gate<{ readonly resolver: string; readonly addresses: readonly string[] }> = {
  rule: "the resolver is a loopback address or the bridge's own; the domain is always `~vm`, never the default route",
  stops: "hijacking the host's name service",
  check: ({ resolver, addresses }) => {
    const address = parseIpv4(parseResolver(resolver)?.ip ?? "");
    if (address === null) return `${resolver} is not IP or IP:port`;
    if (contains(LOOPBACK_BLOCK, address)) return null;
    const own = addresses.some((text) => parseIpv4(text.split("/")[0] ?? "") === address);
    return own ? null : `${resolver} is neither loopback nor the bridge's own address`;
  },
};

/** What `fstat` reports about an open file. */
interface OpenFile {
  readonly label: string;
  readonly kind: string;
  readonly uid: number;
  readonly mode: number;
  readonly links: number;
}

export const ownersFile: Gate<{ readonly file: OpenFile; readonly ownerUid: number }> = {
  rule: "checked by descriptor: a regular file that belongs to the owner",
  stops: "a hard link, symbolic link or device in place of a file, which makes root open or share a host file or disk",
  check: ({ file, ownerUid }) => {
    if (file.kind !== "file") return `${file.label} is not a regular file`;
    return file.uid === ownerUid ? null : `${file.label} belongs to uid ${file.uid}, not to the owner`;
  },
};

export const ownersOnlyFile: Gate<{ readonly file: OpenFile; readonly ownerUid: number }> = {
  rule: "checked by descriptor: a regular file that belongs to the owner, with one name",
  stops: "giving one VM's disk to another VM under a second name",
  check: ({ file, ownerUid }) => {
    const verdict = ownersFile.check({ file, ownerUid });
    if (verdict !== null) return verdict;
    return file.links === 1 ? null : `${file.label} has ${file.links} names`;
  },
};

export const rootsFile: Gate<{ readonly file: OpenFile }> = {
  rule: "checked by descriptor: a regular file of root's, with one name, that only root may write",
  stops: "trusting a file that the owner placed or can still change",
  check: ({ file }) => {
    if (file.kind !== "file") return `${file.label} is not a regular file`;
    if (file.uid !== 0) return `${file.label} belongs to uid ${file.uid}, not to root`;
    if ((file.mode & 0o022) !== 0) return `${file.label} is writable by others than root`;
    return file.links === 1 ? null : `${file.label} has ${file.links} names`;
  },
};

export const rootsProgram: Gate<{ readonly file: OpenFile }> = {
  rule: "the program is a regular, executable file of root's, with one name, not writable by others and not set-uid or set-gid",
  stops: "running the owner's own program as root",
  check: ({ file }) => {
    const verdict = rootsFile.check({ file });
    if (verdict !== null) return verdict;
    if ((file.mode & 0o6000) !== 0) return `${file.label} is set-uid or set-gid`;
    return (file.mode & 0o100) !== 0 ? null : `${file.label} is not executable`;
  },
};

export const rootsDirectory: Gate<{ readonly directory: OpenFile }> = {
  rule: "every directory on the path belongs to root, and only root may write it",
  stops: "replacing a parent directory between check and use",
  check: ({ directory }) => {
    if (directory.kind !== "directory") return `${directory.label} is not a directory`;
    if (directory.uid !== 0) return `${directory.label} belongs to uid ${directory.uid}, not to root`;
    // Others can't replace a sticky directory's entries, but they could create a new one first.
    return (directory.mode & 0o022) === 0 ? null : `${directory.label} is writable by others than root`;
  },
};

export const ownersDirectory: Gate<{ readonly directory: OpenFile; readonly ownerUid: number }> = {
  rule: "the state directory belongs to the owner",
  stops: "resolving the owner's ids in another user's tree",
  check: ({ directory, ownerUid }) => {
    if (directory.kind !== "directory") return `${directory.label} is not a directory`;
    return directory.uid === ownerUid ? null : `${directory.label} belongs to uid ${directory.uid}, not to the owner`;
  },
};

export const kernelsFileSystem: Gate<{ readonly label: string; readonly type: string }> = {
  rule: "no part of the path is a FUSE mount",
  stops: "blocking the helper with a file system that the owner mounted and that never answers",
  check: ({ label, type }) => (/^fuse/.test(type) ? `${label} is a ${type} mount` : null),
};

export const jailSocket: Gate<{ readonly file: OpenFile; readonly uid: number }> = {
  rule: "checked by descriptor, below the VM's jail: a socket made by that VM's uid; access is granted on the jail's directory, never on the name",
  stops: "changing the mode or owner of `/etc/shadow` through a link in the socket's place",
  check: ({ file, uid }) => {
    if (file.kind !== "socket") return `${file.label} is not a socket`;
    return file.uid === uid ? null : `${file.label} belongs to uid ${file.uid}, not to the VM`;
  },
};

export const dmIsOurs: Gate<{
  readonly name: string;
  /** The mark that root gave it; empty for a device made by an earlier version. */
  readonly uuid: string;
  readonly mark: string;
  /** The marks of the loops, or names of the devices, below it. */
  readonly parts: readonly string[];
  readonly ours: readonly string[];
}> = {
  rule: "a dm device is removed only if it has the mark root gave it for that VM; a device of an earlier version, only if it uses nothing but marked loops",
  stops: "removing a host volume that has such a name",
  check: ({ name, uuid, mark, parts, ours }) => {
    if (uuid === mark) return null;
    if (uuid !== "") return `${name} is marked ${uuid}, not ${mark}`;
    const foreign = parts.find((part) => !ours.includes(part));
    if (foreign !== undefined) return `${name} has no mark and uses ${foreign}`;
    return parts.length > 0 ? null : `${name} has no mark and uses no device`;
  },
};

/** Reads `SIGTERM` or `term` as `TERM`; null if it isn't one of the contract's signals. */
export function parseSignal(text: string): (typeof SIGNALS)[number] | null {
  const name = text.toUpperCase().replace(/^SIG/, "");
  return SIGNALS.find((signal) => signal === name) ?? null;
}

export const allowedSignal: Gate<{ readonly signal: string }> = {
  rule: "the signal is TERM, KILL, INT, HUP, QUIT, USR1, USR2 or ABRT",
  stops: "stopping and continuing a VM with STOP and CONT",
  check: ({ signal }) => (parseSignal(signal) === null ? `${signal} is not an allowed signal` : null),
};

/** What /proc reports about a process in a VM's scope. */
export interface ProcessFacts {
  readonly pid: number;
  readonly uid: number;
  readonly comm: string;
  /** The path of its cgroup below the hierarchy's root. */
  readonly cgroup: string;
}

export const isVmProcess: Gate<{
  readonly process: ProcessFacts;
  readonly uid: number | null;
  readonly cgroup: string;
}> = {
  rule: "the process is in that VM's scope, has that VM's uid and is named `firecracker`; it is signalled by pidfd",
  stops: "adopting, signalling or killing another process (sshd, init), or one that reuses a pid",
  check: ({ process, uid, cgroup }) => {
    if (process.cgroup !== cgroup) return `pid ${process.pid} is in ${process.cgroup}, not in ${cgroup}`;
    if (uid === null || process.uid !== uid) return `pid ${process.pid} has uid ${process.uid}, not the VM's`;
    return process.comm === "firecracker" ? null : `pid ${process.pid} is named ${process.comm}, not firecracker`;
  },
};

const JAIL_OPTIONS = ["nosuid", "nodev", "noexec"] as const;

export const jailsMount: Gate<{ readonly label: string; readonly options: readonly string[] }> = {
  rule: "the jails' directory is mounted `nosuid`, `nodev` and `noexec`",
  stops: "another user taking over the VM's uid with a set-uid file that a VMM leaves in its jail",
  check: ({ label, options }) => {
    const lacks = JAIL_OPTIONS.filter((option) => !options.includes(option));
    return lacks.length === 0
      ? null
      : `${label} is not mounted ${lacks.join(", ")}; to mount it: sudo banger system install`;
  },
};

export const programIsStatic: Gate<{ readonly label: string; readonly isStatic: boolean }> = {
  rule: "Firecracker is statically linked",
  stops: "copying shared libraries into a jail, each one more host file to trust",
  check: ({ label, isStatic }) =>
    isStatic ? null : `${label} is not statically linked, as Firecracker's own releases are`,
};
