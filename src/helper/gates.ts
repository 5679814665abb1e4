/**
 * Every rule the helper enforces, once: pure predicates on what a caller sent and on what was found through
 * descriptors. Each says what it demands and which attack it stops; `docs/privileges.md` prints the same words.
 */

import { BangerError } from "../shared/errors.ts";
import { isBridgeName, isTapName } from "../shared/host-names.ts";
import { SIGNALS } from "../shared/contract/helper-api.ts";
import { BRIDGE_ALIAS, INTERFACE_BOUNDS, parseTapAlias } from "../shared/network/walls.ts";
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

/** Null when accepted, else why not. */
export type Verdict = string | null;

export interface Gate<Facts> {
  /** What must hold, as the documentation prints it. */
  readonly rule: string;
  /** The attack it stops. */
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
  stops: "upping, re-addressing or rerouting eth0, docker0 or lo",
  check: ({ bridge }) => (isBridgeName(bridge) ? null : `${bridge} is not a name of a bridge of banger's`),
};

export const tapName: Gate<{ readonly tap: string }> = {
  rule: "the tap is `tap-fc-…` or `tap-pool-N`",
  stops: "taking over or deleting an interface of the host",
  check: ({ tap }) => (isTapName(tap) ? null : `${tap} is not a name of a tap of banger's`),
};

export const optionalTapName: Gate<{ readonly tap: string | null }> = {
  ...tapName,
  check: ({ tap }) => (tap === null ? null : tapName.check({ tap })),
};

export const bridgeAddress: Gate<{ readonly ip: string; readonly prefix: number }> = {
  rule: "the address is a private IPv4 one (RFC 1918), the prefix 8 to 32, and the whole subnet private",
  stops: "claiming public addresses, or widening the subnet over somebody else's",
  check: ({ ip, prefix }) => {
    const address = parseIpv4(ip);
    if (address === null) return `${ip} is not an IPv4 address`;
    if (!Number.isInteger(prefix) || prefix < 8 || prefix > 32) return `a prefix of ${prefix} is not 8 to 32`;
    const subnet = subnetOf(address, prefix);
    if (!PRIVATE_BLOCKS.some((block) => contains(block, subnet.first) && contains(block, subnet.last))) {
      return `${ip}/${prefix} is not wholly private`;
    }
    if (prefix <= 30 && (address === subnet.first || address === subnet.last)) {
      return `${ip} is the network's or the broadcast address of its /${prefix}`;
    }
    return null;
  },
};

/** An address or route of the host: `172.17.0.0/16` on `docker0`. */
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
  stops: "drawing traffic meant for the LAN, a VPN or containers to the guests' bridge",
  check: ({ ip, prefix, bridge, routes }) => {
    const subnet = parseSubnet(`${ip}/${prefix}`);
    if (subnet === null) return `${ip}/${prefix} is not a subnet`;
    const taken = routes.find(({ destination, device }) => {
      if (device === bridge) return false;
      const other = parseSubnet(destination);
      return other !== null && overlaps(subnet, other);
    });
    return taken === undefined ? null : `${ip}/${prefix} collides with ${taken.destination} on ${taken.device}`;
  },
};

/** What the kernel says of an interface. */
export interface InterfaceFacts {
  readonly name: string;
  /** `bridge` or `tun`; null for every other kind. */
  readonly kind: string | null;
  /** `tap` or `tun` where the kind is `tun`. */
  readonly tunType: string | null;
  readonly master: string | null;
  /** The interface's alias, by which banger marks its own. */
  readonly alias: string;
}

export const realBridge: Gate<{ readonly link: InterfaceFacts; readonly ports: readonly string[] }> = {
  rule: "the interface really is a bridge that banger made, by its alias, and every port of it is a tap of banger's",
  stops: "using a renamed interface, or bridging guests into the LAN through one the bridge already holds",
  check: ({ link, ports }) => {
    if (link.kind !== "bridge") return `${link.name} is not a bridge`;
    const foreign = ports.find((port) => !isTapName(port));
    if (foreign !== undefined) return `${link.name} also holds ${foreign}`;
    return link.alias === BRIDGE_ALIAS ? null : `${link.name} was not made by banger`;
  },
};

export const realTap: Gate<{ readonly link: InterfaceFacts }> = {
  rule: "the interface really is a tap that banger made, by its alias, on no bridge but banger's",
  stops: "deleting or handing out a host interface that was given such a name",
  check: ({ link }) => {
    if (link.kind !== "tun" || link.tunType !== "tap") return `${link.name} is not a tap`;
    if (link.master !== null && !isBridgeName(link.master)) return `${link.name} belongs to ${link.master}`;
    return parseTapAlias(link.alias) === null ? `${link.name} was not made by banger` : null;
  },
};

export const roomForInterface: Gate<{ readonly kind: keyof typeof INTERFACE_BOUNDS; readonly there: number }> = {
  rule: `at most ${INTERFACE_BOUNDS.bridge} bridges and ${INTERFACE_BOUNDS.tap} taps`,
  stops: "filling the kernel with interfaces and the rules that each brings",
  check: ({ kind, there }) =>
    there < INTERFACE_BOUNDS[kind] ? null : `there are ${there} of banger's ${kind}s already, which is the most`,
};

export const tapsGuest: Gate<{ readonly link: InterfaceFacts; readonly guest_ip: string }> = {
  rule: "the tap was made for that address",
  stops: "giving NAT to an address that the tap's wall doesn't hold the guest to",
  check: ({ link, guest_ip }) =>
    parseTapAlias(link.alias) === guest_ip ? null : `${link.name} was not made for ${guest_ip}`,
};

export const guestAddress: Gate<{ readonly guest_ip: string }> = {
  rule: "the guest's address is a private IPv4 one",
  stops: "rule injection: what reaches nft is an address and nothing else",
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
  rule: "the guest's address is in the subnet that the tap's bridge really has, and not the bridge's own",
  stops: "masquerading or forwarding for arbitrary hosts",
  check: ({ guest_ip, bridge, addresses }) => {
    const guest = parseIpv4(guest_ip);
    const own = addresses.some((text) => parseIpv4(text.split("/")[0] ?? "") === guest);
    const subnets = addresses.map(parseSubnet).filter((subnet): subnet is Subnet => subnet !== null);
    if (guest === null || own || !subnets.some((subnet) => contains(subnet, guest))) {
      return `${guest_ip} is no guest's address on ${bridge}`;
    }
    return null;
  },
};

/** A resolver as `IP` or `IP:port`, split; null when it is neither. */
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

/** What `fstat` said of an open file. */
interface OpenFile {
  readonly label: string;
  readonly kind: string;
  readonly uid: number;
  readonly mode: number;
  readonly links: number;
}

export const ownersFile: Gate<{ readonly file: OpenFile; readonly ownerUid: number }> = {
  rule: "by descriptor: a regular file owned by exactly the owner",
  stops: "a hard link, symbolic link or device in place of a file, to have root open or share a host file or disk",
  check: ({ file, ownerUid }) => {
    if (file.kind !== "file") return `${file.label} is not a regular file`;
    return file.uid === ownerUid ? null : `${file.label} belongs to uid ${file.uid}, not to the owner`;
  },
};

export const ownersOnlyFile: Gate<{ readonly file: OpenFile; readonly ownerUid: number }> = {
  rule: "by descriptor: a regular file owned by exactly the owner, with one name",
  stops: "one VM's disk given to another VM under a second name",
  check: ({ file, ownerUid }) => {
    const verdict = ownersFile.check({ file, ownerUid });
    if (verdict !== null) return verdict;
    return file.links === 1 ? null : `${file.label} has ${file.links} names`;
  },
};

export const rootsFile: Gate<{ readonly file: OpenFile }> = {
  rule: "by descriptor: a regular file of root's that no group and nobody else may write, with one name",
  stops: "trusting a file that the owner placed or may still change",
  check: ({ file }) => {
    if (file.kind !== "file") return `${file.label} is not a regular file`;
    if (file.uid !== 0) return `${file.label} belongs to uid ${file.uid}, not to root`;
    if ((file.mode & 0o022) !== 0) return `${file.label} may be written by others than root`;
    return file.links === 1 ? null : `${file.label} has ${file.links} names`;
  },
};

export const rootsProgram: Gate<{ readonly file: OpenFile }> = {
  rule: "the program is root's regular file, executable, without group or world write, set-uid or links",
  stops: "running the owner's own program as root",
  check: ({ file }) => {
    const verdict = rootsFile.check({ file });
    if (verdict !== null) return verdict;
    if ((file.mode & 0o6000) !== 0) return `${file.label} is set-uid or set-gid`;
    return (file.mode & 0o100) !== 0 ? null : `${file.label} is not executable`;
  },
};

export const rootsDirectory: Gate<{ readonly directory: OpenFile }> = {
  rule: "every directory on the way is root's, without group or world write",
  stops: "exchanging a parent directory between the check and the use",
  check: ({ directory }) => {
    if (directory.kind !== "directory") return `${directory.label} is not a directory`;
    if (directory.uid !== 0) return `${directory.label} belongs to uid ${directory.uid}, not to root`;
    // A sticky directory's entries can't be exchanged by others, but a new one could be placed first.
    return (directory.mode & 0o022) === 0 ? null : `${directory.label} may be written by others than root`;
  },
};

export const ownersDirectory: Gate<{ readonly directory: OpenFile; readonly ownerUid: number }> = {
  rule: "the state directory is the owner's",
  stops: "resolving the owner's ids in a tree of somebody else's",
  check: ({ directory, ownerUid }) => {
    if (directory.kind !== "directory") return `${directory.label} is not a directory`;
    return directory.uid === ownerUid ? null : `${directory.label} belongs to uid ${directory.uid}, not to the owner`;
  },
};

export const kernelsFileSystem: Gate<{ readonly label: string; readonly type: string }> = {
  rule: "no part of the way is a FUSE mount",
  stops: "holding up the helper with a file system that the owner mounted and doesn't answer for",
  check: ({ label, type }) => (/^fuse/.test(type) ? `${label} is a ${type} mount` : null),
};

export const jailSocket: Gate<{ readonly file: OpenFile; readonly uid: number }> = {
  rule: "by descriptor, below the VM's jail: a socket made by that VM's uid; what is opened up is the jail's directory, never the name",
  stops: "a change of mode or owner of `/etc/shadow` by a link put in the socket's place",
  check: ({ file, uid }) => {
    if (file.kind !== "socket") return `${file.label} is not a socket`;
    return file.uid === uid ? null : `${file.label} belongs to uid ${file.uid}, not to the VM`;
  },
};

export const dmIsOurs: Gate<{
  readonly name: string;
  /** What root marked it with; empty for a device of an earlier version. */
  readonly uuid: string;
  readonly mark: string;
  /** Marks of the loops, and names of the devices, that it rests on. */
  readonly parts: readonly string[];
  readonly ours: readonly string[];
}> = {
  rule: "a dm device is removed only when it carries the mark root gave it for that VM, or, made by an earlier version, rests on marked loops alone",
  stops: "tearing down a volume of the host's that has such a name",
  check: ({ name, uuid, mark, parts, ours }) => {
    if (uuid === mark) return null;
    if (uuid !== "") return `${name} is marked ${uuid}, not ${mark}`;
    const foreign = parts.find((part) => !ours.includes(part));
    if (foreign !== undefined) return `${name} has no mark and rests on ${foreign}`;
    return parts.length > 0 ? null : `${name} has no mark and rests on nothing`;
  },
};

/** `SIGTERM` or `term` as `TERM`; null when it isn't one of the contract's. */
export function parseSignal(text: string): (typeof SIGNALS)[number] | null {
  const name = text.toUpperCase().replace(/^SIG/, "");
  return SIGNALS.find((signal) => signal === name) ?? null;
}

export const allowedSignal: Gate<{ readonly signal: string }> = {
  rule: "the signal is TERM, KILL, INT, HUP, QUIT, USR1, USR2 or ABRT",
  stops: "STOP and CONT games",
  check: ({ signal }) => (parseSignal(signal) === null ? `${signal} is not a signal a VM may get` : null),
};

/** What /proc says of a process found in a VM's scope. */
export interface ProcessFacts {
  readonly pid: number;
  readonly uid: number;
  readonly comm: string;
  /** Path of its cgroup below the hierarchy's root. */
  readonly cgroup: string;
}

export const isVmProcess: Gate<{
  readonly process: ProcessFacts;
  readonly uid: number | null;
  readonly cgroup: string;
}> = {
  rule: "the process sits in that VM's scope, has that VM's uid and is named `firecracker`; acted on by pidfd",
  stops: "adopting, signalling or killing a foreign process (sshd, init), or one that took over a pid",
  check: ({ process, uid, cgroup }) => {
    if (process.cgroup !== cgroup) return `pid ${process.pid} is in ${process.cgroup}, not in ${cgroup}`;
    if (uid === null || process.uid !== uid) return `pid ${process.pid} has uid ${process.uid}, not the VM's`;
    return process.comm === "firecracker" ? null : `pid ${process.pid} is ${process.comm}`;
  },
};

const JAIL_OPTIONS = ["nosuid", "nodev", "noexec"] as const;

export const jailsMount: Gate<{ readonly label: string; readonly options: readonly string[] }> = {
  rule: "the jails' directory is mounted `nosuid`, `nodev` and `noexec`",
  stops: "a set-uid file that a VMM leaves in its jail, with which another user takes over the VM's uid",
  check: ({ label, options }) => {
    const lacks = JAIL_OPTIONS.filter((option) => !options.includes(option));
    return lacks.length === 0
      ? null
      : `${label} is not mounted ${lacks.join(", ")}; to mount it: sudo banger system install`;
  },
};

export const programIsStatic: Gate<{ readonly label: string; readonly isStatic: boolean }> = {
  rule: "Firecracker is statically linked",
  stops: "copying libraries into a jail, each one more file of the host's to be trusted",
  check: ({ label, isStatic }) =>
    isStatic ? null : `${label} is not statically linked, as Firecracker's own releases are`,
};
