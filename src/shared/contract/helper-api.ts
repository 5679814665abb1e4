/**
 * The root helper's contract: every verb declared once. Both ends validate with it, the daemon's typed client and the
 * helper's dispatch derive from it. What the schemas can't say (names of ours, subnets, owners of files) is said by
 * the gates of `src/helper/gates.ts`, which run next.
 *
 * Wire (`src/shared/contract/frames.ts`): connect to the helper's socket, send one frame {@link HelperRequest}, read one
 * frame `{"result": …}` or `{"error": {code, message}}`, close. A caller sends ids and plain data. No verb takes a
 * command, an environment, a uid, a mount source, a host interface or a free path.
 *
 * How a VM is launched, end to end (system mode):
 *  1. `ensure_bridge`, `create_tap` (or one from the pool).
 *  2. `create_dm_snapshot`: the helper keeps the COW file itself (root's, `<base>/cow/<vm>.cow`), so an owner can't
 *     feed the kernel a crafted one. The device is `/dev/mapper/fc-rootfs-<vm>`.
 *  3. The daemon makes `<stateDir>/vms/<vm>/work.ext4` and `identity.img` (its own, regular files).
 *  4. `launch_firecracker`: gives the VM a uid from the reserved range (remembered until `release_vm`), stages the
 *     jail, hands the tap to that uid, starts the jailer in `banger-vm-<vm>.scope`, and answers when the API socket is
 *     there. Of what the VMM sees as `/` the host sees `io` alone.
 *  5. The daemon configures and boots the guest over the API socket with the in-jail names of {@link JAIL}. Boot
 *     arguments and drives are settled there: whatever the owner asks of that API is done by the jailed process, with
 *     the VM's uid, inside its chroot.
 *  6. Stop: `kill_process`, `cleanup_jailer_chroot`, `remove_dm_snapshot` (keeping the COW file), tap back or deleted.
 *     Delete: the same with `discard: true`, then the daemon removes `<stateDir>/vms/<vm>`, then `release_vm`.
 *
 * The VMM may be hostile and owns its jail: whoever opens a path below the jail's root must not follow links. Open
 * `<jail_root>/io` with `O_PATH | O_NOFOLLOW | O_DIRECTORY`, then `/proc/self/fd/<n>/api.sock` with
 * `O_PATH | O_NOFOLLOW`, check that it is a socket, connect to `/proc/self/fd/<m>` (which is short, too).
 */

import * as v from "valibot";
import type { ErrorCode } from "../errors.ts";
import { ImageName, KernelName, OperationId, VmId, VmSpec } from "./schemas.ts";

/** Raised by one for every change that an older peer can't live with. */
export const HELPER_VERSION = 2;
/** A frame must be whole this long after the connection, in milliseconds. */
export const HELPER_REQUEST_TIMEOUT_MS = 5000;
/** How long a verb may take before a client may give up, in milliseconds. The helper finishes or undoes it anyway. */
export const HELPER_ANSWER_TIMEOUT_MS = 120_000;

/** So many VMs may have a root snapshot at a time, which is to say run. */
export const SNAPSHOT_LIMIT = 512;

/** Names inside a jail, as the jailed Firecracker sees them: what goes into its API's bodies. */
export const JAIL = {
  kernel: "/kernel",
  initrd: "/initrd",
  rootDrive: "/root-drive",
  workDrive: "/work-drive",
  /** Read-only to the VMM. */
  identityDrive: "/identity-drive",
  /** The only directory both the VMM and the owner may write: sockets, logs, metrics, memory snapshots. */
  io: "/io",
  apiSocket: "/io/api.sock",
  /** Guest to host: the owner listens on `<this>_<port>`, with mode 0770 so that the VM's uid may connect. */
  vsockSocket: "/io/vsock.sock",
  serialLog: "/io/serial.log",
  vmmLog: "/io/firecracker.log",
  metrics: "/io/metrics",
} as const;

const Whole = v.pipe(v.number(), v.safeInteger(), v.minValue(0));
/** An interface's name: at most 15 bytes (IFNAMSIZ). Which names are ours is a gate's business. */
const InterfaceName = v.pipe(v.string(), v.regex(/^[a-z0-9-]{1,15}$/));
const Ipv4 = v.pipe(v.string(), v.regex(/^[0-9.]{7,15}$/));
const Bridge = v.strictObject({ bridge: InterfaceName, ip: Ipv4, prefix: v.pipe(Whole, v.maxValue(32)) });
const OfVm = v.strictObject({ vm: VmId });
const Nothing = v.strictObject({});
/** pid and field 22 of /proc/pid/stat, as a decimal string: the pair that pid reuse can't repeat. */
const Process = v.strictObject({ pid: Whole, start_ticks: v.pipe(v.string(), v.regex(/^\d{1,20}$/)) });

/** Signals a caller may send; upper or lower case, with or without SIG. */
export const SIGNALS = ["TERM", "KILL", "INT", "HUP", "QUIT", "USR1", "USR2", "ABRT"] as const;

/** What kept a guest's packet from the uplink: a switch of the kernel, a route by another device, a product, a rule of somebody's. */
export const NAT_DROPPERS = ["ip_forward", "route", "docker", "ufw", "firewalld", "rule", "unknown"] as const;
export type NatDropper = (typeof NAT_DROPPERS)[number];

type Schema = v.GenericSchema;
interface VerbShape {
  /** What it does, one sentence. */
  readonly doc: string;
  readonly input: Schema;
  readonly output: Schema;
  /** Beyond INVALID_REQUEST, HELPER_REFUSED, TOOL_MISSING and FAILED, which every verb may raise. */
  readonly errors: readonly ErrorCode[];
}
const verb = <const I extends Schema, const O extends Schema>(shape: {
  doc: string;
  input: I;
  output: O;
  errors: readonly ErrorCode[];
}) => shape;

export const HELPER_VERBS = {
  "priv.ensure_bridge": verb({
    doc: "Makes the bridge with that address, brings it up, and puts every wall around guests in place again. Call it again when a firewall reload may have wiped the rules.",
    input: Bridge,
    output: Nothing,
    errors: ["IN_USE"],
  }),
  "priv.create_tap": verb({
    doc: "Makes a tap that only root may open, on that bridge (which is there), with a wall that lets in only what that guest address sends. `launch_firecracker` hands it to a VM.",
    input: v.strictObject({ tap: InterfaceName, bridge: InterfaceName, guest_ip: Ipv4 }),
    output: Nothing,
    errors: ["IN_USE"],
  }),
  "priv.delete_tap": verb({
    doc: "Removes a tap; one that isn't there is fine.",
    input: v.strictObject({ tap: InterfaceName }),
    output: Nothing,
    errors: ["IN_USE"],
  }),
  "priv.ensure_nat": verb({
    doc: "Adds (once) or removes the rules that let one guest address out through the default uplink. Call it again when the uplink changed or a firewall reload wiped the rules.",
    input: v.strictObject({ guest_ip: Ipv4, tap: InterfaceName, enable: v.boolean() }),
    output: v.strictObject({
      /** The uplink the rules name; null after a removal. */
      uplink: v.nullable(v.string()),
    }),
    errors: ["NETWORK"],
  }),
  "priv.probe_nat": verb({
    doc: "Sends one UDP packet from a guest address that has NAT, through a tap that nothing uses, and says whether it got out or who ended it.",
    input: v.strictObject({ guest_ip: Ipv4, tap: InterfaceName }),
    output: v.strictObject({
      /** Whether it came as far as the translation of its address, by the uplink. */
      forwarded: v.boolean(),
      /** Null when it was forwarded. */
      dropped_by: v.nullable(v.picklist(NAT_DROPPERS)),
      /** Names only: `net.ipv4.ip_forward`, a device, `iptables TABLE CHAIN`, `nft FAMILY TABLE CHAIN`; null when it isn't known. */
      where: v.nullable(v.pipe(v.string(), v.regex(/^[A-Za-z0-9_][\w.@-]{0,63}(?: [A-Za-z0-9_][\w.@-]{0,63}){0,3}$/))),
    }),
    errors: ["IN_USE"],
  }),
  "priv.sync_resolver_routing": verb({
    doc: "Tells systemd-resolved to ask that resolver for names below `vm.`, and for nothing else.",
    input: v.strictObject({
      bridge: InterfaceName,
      /** `IP` or `IP:port`. */
      resolver: v.pipe(v.string(), v.regex(/^[0-9.]{7,15}(?::[0-9]{1,5})?$/)),
    }),
    output: Nothing,
    errors: [],
  }),
  "priv.clear_resolver_routing": verb({
    doc: "Takes back what `sync_resolver_routing` told.",
    input: v.strictObject({ bridge: InterfaceName }),
    output: Nothing,
    errors: [],
  }),
  "priv.create_dm_snapshot": verb({
    doc: "The VM's root disk: a dm snapshot over the image's shared read-only loop, its COW file made or kept.",
    input: v.strictObject({
      vm: VmId,
      image: ImageName,
      /**
       * Size the guest sees, in bytes (`VmSpec.systemOverlayBytes`); never less than the image's or than before. What is past the
       * image reads as zeros. The COW file is sparse and large enough for all of it, so the snapshot can't overflow.
       */
      root_bytes: VmSpec.entries.systemOverlayBytes,
    }),
    output: v.strictObject({
      dm_name: v.string(),
      /** Its path, for people: udev makes it when it comes to it. */
      dm_device: v.string(),
      base_loop: v.string(),
      cow_loop: v.string(),
      /** Size the guest sees, in bytes. */
      bytes: Whole,
      /** True when a COW file of an earlier start was taken up. */
      kept: v.boolean(),
    }),
    errors: ["IMAGE_NOT_FOUND", "NO_SPACE", "IN_USE"],
  }),
  "priv.remove_dm_snapshot": verb({
    doc: "Removes the VM's dm device and loops; with `discard`, the COW file as well. What isn't there is fine.",
    input: v.strictObject({ vm: VmId, discard: v.boolean() }),
    output: Nothing,
    errors: ["IN_USE"],
  }),
  "priv.resolve_firecracker_binary": verb({
    doc: "The Firecracker and jailer of install.toml, found safe to run as root.",
    input: Nothing,
    output: v.strictObject({ version: v.string(), firecracker: v.string(), jailer: v.string() }),
    errors: [],
  }),
  "priv.launch_firecracker": verb({
    doc: "Stages the VM's jail and starts Firecracker in it under the jailer, in a scope and with a uid of the VM's own.",
    input: v.strictObject({
      vm: VmId,
      /** A kernel of `<stateDir>/kernels`. */
      kernel: KernelName,
      /** Whether that kernel's `initrd.img` is staged too. */
      initrd: v.boolean(),
      /** The root drive: the VM's dm snapshot, or `<stateDir>/vms/<vm>/root.ext4` where files are reflinked. */
      root: v.picklist(["snapshot", "file"]),
      /** Null for a guest without a network. */
      tap: v.nullable(InterfaceName),
      /** For the scope's limits. The guest's own size is set over the API. */
      vcpu: VmSpec.entries.vcpu,
      memory_mib: VmSpec.entries.memoryMiB,
    }),
    output: v.strictObject({
      process: Process,
      /** The VM's uid and gid. */
      uid: Whole,
      firecracker_version: v.string(),
      /** The directory whose `io` is the VMM's. The owner may enter, not list; `io` is open to both. */
      jail_root: v.string(),
      scope: v.string(),
    }),
    errors: ["VMM_FAILED", "KERNEL_NOT_FOUND", "VM_NOT_FOUND", "IN_USE", "NO_SPACE"],
  }),
  "priv.find_firecracker_pid": verb({
    doc: "The VM's Firecracker, found by its scope, uid and name; null when it doesn't run.",
    input: OfVm,
    output: v.strictObject({ process: v.nullable(Process), uid: v.nullable(Whole) }),
    errors: [],
  }),
  "priv.signal_process": verb({
    doc: "Sends a signal to the VM's Firecracker. (It is init of its pid namespace: only KILL is sure to end it.)",
    input: v.strictObject({ vm: VmId, signal: v.pipe(v.string(), v.minLength(3), v.maxLength(7)) }),
    output: v.strictObject({ sent: v.boolean() }),
    errors: [],
  }),
  "priv.kill_process": verb({
    doc: "Ends everything in the VM's scope with SIGKILL and waits until it is gone. Nothing there is fine.",
    input: OfVm,
    output: v.strictObject({ killed: v.boolean() }),
    errors: ["VMM_FAILED"],
  }),
  "priv.cleanup_jailer_chroot": verb({
    doc: "Removes the jail of a VM that doesn't run. What isn't there is fine.",
    input: OfVm,
    output: Nothing,
    errors: ["IN_USE"],
  }),
  "priv.release_vm": verb({
    doc: "Gives the VM's uid back, when the helper finds nothing of the VM left (its directory under vms included).",
    input: OfVm,
    output: Nothing,
    errors: ["IN_USE"],
  }),
  "priv.inventory": verb({
    doc: "Everything of this product that the host holds. Reads only.",
    input: Nothing,
    output: v.strictObject({
      bridges: v.array(v.string()),
      taps: v.array(v.strictObject({ tap: v.string(), uid: v.nullable(Whole) })),
      dm: v.array(v.string()),
      /** `mark` says whose: `banger-base`, or `banger-cow-<vm>`. */
      loops: v.array(v.strictObject({ device: v.string(), mark: v.string() })),
      mounts: v.array(v.string()),
      jails: v.array(v.string()),
      /** COW files by VM id, with the bytes really allocated. */
      cow_files: v.array(v.strictObject({ vm: v.string(), allocated_bytes: Whole })),
      /** Guests with NAT, and the taps they have it by. */
      nat_rules: v.array(v.strictObject({ tap: v.string(), guest_ip: v.string() })),
      /** Tables, chains, rules and switches of the host's network that are banger's, by name. */
      walls: v.array(v.string()),
      scopes: v.array(v.strictObject({ vm: v.string(), pids: v.array(Whole) })),
      /** VM ids that hold a uid. */
      slots: v.array(v.strictObject({ vm: v.string(), uid: Whole })),
    }),
    errors: [],
  }),
  "priv.ping": verb({
    doc: "Who answers.",
    input: Nothing,
    output: v.strictObject({ version: v.string(), helper_version: Whole, pid: Whole, owner_uid: Whole }),
    errors: [],
  }),
} as const satisfies Record<string, VerbShape>;

export type HelperVerbs = typeof HELPER_VERBS;
export type HelperVerbName = keyof HelperVerbs;
/** What the daemon passes. */
export type HelperInputOf<V extends HelperVerbName> = v.InferInput<HelperVerbs[V]["input"]>;
/** What a verb of the helper gets, validated. */
export type HelperParsedInputOf<V extends HelperVerbName> = v.InferOutput<HelperVerbs[V]["input"]>;
export type HelperOutputOf<V extends HelperVerbName> = v.InferOutput<HelperVerbs[V]["output"]>;

/** The request's envelope. `params` is checked by the verb's own schema next. */
export const HelperRequest = v.strictObject({
  v: v.literal(HELPER_VERSION),
  method: v.pipe(v.string(), v.maxLength(64)),
  params: v.custom<Readonly<Record<string, unknown>>>(
    (value) => typeof value === "object" && value !== null && !Array.isArray(value),
    "an object",
  ),
  /** The operation this belongs to; stands in both logs. */
  op: v.nullable(OperationId),
});
export type HelperRequest = v.InferOutput<typeof HelperRequest>;

/** What comes back. The code is one of the error table's. */
export type HelperAnswer =
  { readonly result: unknown } | { readonly error: { readonly code: ErrorCode; readonly message: string } };
