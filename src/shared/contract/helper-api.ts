/**
 * The root helper's contract: every verb, declared once. Both ends validate with it; the daemon's typed client and the
 * helper's dispatch derive from it. The gates of `src/helper/gates.ts` run next and check what the schemas can't:
 * names, subnets and the owners of files.
 *
 * Wire (`src/shared/contract/frames.ts`): connect to the helper's socket, send one frame {@link HelperRequest}, read
 * one frame `{"result": …}` or `{"error": {code, message}}`, close. A caller sends ids and plain data. No verb takes a
 * command, an environment, a uid, a mount source, a host interface or a free path.
 *
 * How a VM is launched in system mode:
 *  1. `ensure_bridge`, then `create_tap` (or a tap from the pool).
 *  2. `create_dm_snapshot`: the helper keeps the COW file itself (`<base>/cow/<vm>.cow`, root's), so an owner can't
 *     feed the kernel a crafted one. The device is `/dev/mapper/fc-rootfs-<vm>`.
 *  3. The daemon makes `<stateDir>/vms/<vm>/work.ext4` and `identity.img`, which are its own regular files.
 *  4. `launch_firecracker`: gives the VM a uid from the reserved range (kept until `release_vm`), stages the jail,
 *     gives the tap to that uid, starts the jailer in `banger-vm-<vm>.scope`, and answers once the API socket exists.
 *     Of what the VMM sees as `/`, the host sees only `io`.
 *  5. The daemon configures and boots the guest over the API socket, with the in-jail names of {@link JAIL}. Whatever
 *     the owner asks of that API, the jailed process does with the VM's uid, inside its chroot.
 *  6. Stop: `kill_process`, `cleanup_jailer_chroot`, `remove_dm_snapshot` (keeps the COW file); the tap goes back to
 *     the pool or is deleted. Delete: the same with `discard: true`, then the daemon removes `<stateDir>/vms/<vm>`,
 *     then `release_vm`.
 *
 * The VMM may be hostile and owns its jail: never follow links when opening a path below the jail's root. Open
 * `<jail_root>/io` with `O_PATH | O_NOFOLLOW | O_DIRECTORY`, then `/proc/self/fd/<n>/api.sock` with
 * `O_PATH | O_NOFOLLOW`, check that it is a socket, and connect to `/proc/self/fd/<m>`, which is also short enough for
 * a socket's address.
 */

import * as v from "valibot";
import type { ErrorCode } from "../errors.ts";
import { ImageName, KernelName, OperationId, VmId, VmSpec } from "./schemas.ts";

export { JAIL } from "./jail-names.ts";

/** Increased by one for every change that breaks an older peer. */
export const HELPER_VERSION = 2;
/** How long after connecting a caller may take to send its whole frame, in milliseconds. */
export const HELPER_REQUEST_TIMEOUT_MS = 5000;
/** How long a client waits for an answer, in milliseconds. The helper finishes or undoes the verb even after that. */
export const HELPER_ANSWER_TIMEOUT_MS = 120_000;

/** How many VMs may have a root snapshot, and so run, at the same time. */
export const SNAPSHOT_LIMIT = 512;

const Whole = v.pipe(v.number(), v.safeInteger(), v.minValue(0));
/** An interface's name: at most 15 bytes (IFNAMSIZ). The gates check that it is one of banger's. */
const InterfaceName = v.pipe(v.string(), v.regex(/^[a-z0-9-]{1,15}$/));
const Ipv4 = v.pipe(v.string(), v.regex(/^[0-9.]{7,15}$/));
const Bridge = v.strictObject({ bridge: InterfaceName, ip: Ipv4, prefix: v.pipe(Whole, v.maxValue(32)) });
const OfVm = v.strictObject({ vm: VmId });
const Nothing = v.strictObject({});
/** The pid, and field 22 of /proc/pid/stat as a decimal string. Pid reuse can't repeat the pair. */
const Process = v.strictObject({ pid: Whole, start_ticks: v.pipe(v.string(), v.regex(/^\d{1,20}$/)) });

/** Signals a caller may send, in upper or lower case, with or without SIG. */
export const SIGNALS = ["TERM", "KILL", "INT", "HUP", "QUIT", "USR1", "USR2", "ABRT"] as const;

/**
 * What kept a guest's packet from the uplink: a kernel switch, a route through another device, a product, or a firewall
 * rule.
 */
export const NAT_DROPPERS = ["ip_forward", "route", "docker", "ufw", "firewalld", "rule", "unknown"] as const;
export type NatDropper = (typeof NAT_DROPPERS)[number];

type Schema = v.GenericSchema;
interface VerbShape {
  /** What it does, in a sentence or two. */
  readonly doc: string;
  readonly input: Schema;
  readonly output: Schema;
  /**
   * Errors it may raise besides INVALID_REQUEST, HELPER_REFUSED, TOOL_MISSING and FAILED, which every verb may raise.
   */
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
    doc: "Makes the bridge with that address, brings it up, and puts every wall around guests in place. Call it again if a firewall reload may have removed the rules.",
    input: Bridge,
    output: Nothing,
    errors: ["IN_USE"],
  }),
  "priv.create_tap": verb({
    doc: "Makes a tap on that existing bridge. Only root may open it, and its wall admits only packets from that guest address. `launch_firecracker` gives it to a VM.",
    input: v.strictObject({ tap: InterfaceName, bridge: InterfaceName, guest_ip: Ipv4 }),
    output: Nothing,
    errors: ["IN_USE"],
  }),
  "priv.delete_tap": verb({
    doc: "Removes a tap. A missing tap is not an error.",
    input: v.strictObject({ tap: InterfaceName }),
    output: Nothing,
    errors: ["IN_USE"],
  }),
  "priv.ensure_nat": verb({
    doc: "Adds or removes the rules that let one guest address out through the default uplink. Call it again if the uplink changes or a firewall reload removes the rules.",
    input: v.strictObject({ guest_ip: Ipv4, tap: InterfaceName, enable: v.boolean() }),
    output: v.strictObject({
      /** The uplink that the rules name; null after a removal. */
      uplink: v.nullable(v.string()),
    }),
    errors: ["NETWORK"],
  }),
  "priv.probe_nat": verb({
    doc: "Sends one UDP packet from a guest address that has NAT, through an unused tap. Reports whether it got out, or what dropped it.",
    input: v.strictObject({ guest_ip: Ipv4, tap: InterfaceName }),
    output: v.strictObject({
      /** True if its address was about to be translated at the uplink. */
      forwarded: v.boolean(),
      /** Null if it was forwarded. */
      dropped_by: v.nullable(v.picklist(NAT_DROPPERS)),
      /**
       * Names only: `net.ipv4.ip_forward`, a device, `iptables TABLE CHAIN`, `nft FAMILY TABLE CHAIN`; null if unknown.
       */
      where: v.nullable(v.pipe(v.string(), v.regex(/^[A-Za-z0-9_][\w.@-]{0,63}(?: [A-Za-z0-9_][\w.@-]{0,63}){0,3}$/))),
    }),
    errors: ["IN_USE"],
  }),
  "priv.sync_resolver_routing": verb({
    doc: "Tells systemd-resolved to ask that resolver for names below `vm.` only.",
    input: v.strictObject({
      bridge: InterfaceName,
      /** `IP` or `IP:port`. */
      resolver: v.pipe(v.string(), v.regex(/^[0-9.]{7,15}(?::[0-9]{1,5})?$/)),
    }),
    output: Nothing,
    errors: [],
  }),
  "priv.clear_resolver_routing": verb({
    doc: "Undoes `sync_resolver_routing`.",
    input: v.strictObject({ bridge: InterfaceName }),
    output: Nothing,
    errors: [],
  }),
  "priv.create_dm_snapshot": verb({
    doc: "Makes the VM's root disk: a dm snapshot over the image's shared read-only loop. Creates its COW file, or keeps the existing one.",
    input: v.strictObject({
      vm: VmId,
      image: ImageName,
      /**
       * Size the guest sees, in bytes (`VmSpec.systemOverlayBytes`); at least the image's size and the previous size.
       * Blocks past the image read as zeros. The COW file is sparse and large enough for every block, so the snapshot
       * can't overflow.
       */
      root_bytes: VmSpec.entries.systemOverlayBytes,
    }),
    output: v.strictObject({
      dm_name: v.string(),
      /** Its path, for people. udev makes it some time later. */
      dm_device: v.string(),
      base_loop: v.string(),
      cow_loop: v.string(),
      /** Size the guest sees, in bytes. */
      bytes: Whole,
      /** True if the COW file of an earlier start was reused. */
      kept: v.boolean(),
    }),
    errors: ["IMAGE_NOT_FOUND", "NO_SPACE", "IN_USE"],
  }),
  "priv.remove_dm_snapshot": verb({
    doc: "Removes the VM's dm device and loops, and with `discard` its COW file. Missing ones are not an error.",
    input: v.strictObject({ vm: VmId, discard: v.boolean() }),
    output: Nothing,
    errors: ["IN_USE"],
  }),
  "priv.resolve_firecracker_binary": verb({
    doc: "Finds the Firecracker and jailer named in install.toml and checks that they are safe to run as root.",
    input: Nothing,
    output: v.strictObject({ version: v.string(), firecracker: v.string(), jailer: v.string() }),
    errors: [],
  }),
  "priv.launch_firecracker": verb({
    doc: "Stages the VM's jail and starts Firecracker in it under the jailer, with the VM's own scope and uid.",
    input: v.strictObject({
      vm: VmId,
      /** A kernel of `<stateDir>/kernels`. */
      kernel: KernelName,
      /** Whether that kernel's `initrd.img` is staged as well. */
      initrd: v.boolean(),
      /** The root drive: the VM's dm snapshot, or `<stateDir>/vms/<vm>/root.ext4` if files are reflinked. */
      root: v.picklist(["snapshot", "file"]),
      /** Null for a guest without a network. */
      tap: v.nullable(InterfaceName),
      /** For the scope's limits. The API sets the guest's own size. */
      vcpu: VmSpec.entries.vcpu,
      memory_mib: VmSpec.entries.memoryMiB,
    }),
    output: v.strictObject({
      process: Process,
      /** The VM's uid and gid. */
      uid: Whole,
      firecracker_version: v.string(),
      /** The directory that holds the VMM's `io`. The owner may enter it but not list it; both may use `io`. */
      jail_root: v.string(),
      scope: v.string(),
    }),
    errors: ["VMM_FAILED", "KERNEL_NOT_FOUND", "VM_NOT_FOUND", "IN_USE", "NO_SPACE"],
  }),
  "priv.find_firecracker_pid": verb({
    doc: "Finds the VM's Firecracker by its scope, uid and name. Returns null if it isn't running.",
    input: OfVm,
    output: v.strictObject({ process: v.nullable(Process), uid: v.nullable(Whole) }),
    errors: [],
  }),
  "priv.signal_process": verb({
    doc: "Sends a signal to the VM's Firecracker, which is init of its pid namespace: only KILL is sure to end it.",
    input: v.strictObject({ vm: VmId, signal: v.pipe(v.string(), v.minLength(3), v.maxLength(7)) }),
    output: v.strictObject({ sent: v.boolean() }),
    errors: [],
  }),
  "priv.kill_process": verb({
    doc: "Kills everything in the VM's scope with SIGKILL and waits until it is gone. An empty scope is not an error.",
    input: OfVm,
    output: v.strictObject({ killed: v.boolean() }),
    errors: ["VMM_FAILED"],
  }),
  "priv.cleanup_jailer_chroot": verb({
    doc: "Removes the jail of a stopped VM. A missing jail is not an error.",
    input: OfVm,
    output: Nothing,
    errors: ["IN_USE"],
  }),
  "priv.release_vm": verb({
    doc: "Releases the VM's uid once nothing of the VM is left, including its directory under `vms`.",
    input: OfVm,
    output: Nothing,
    errors: ["IN_USE"],
  }),
  "priv.inventory": verb({
    doc: "Lists everything of banger's on this host. Changes nothing.",
    input: Nothing,
    output: v.strictObject({
      bridges: v.array(v.string()),
      taps: v.array(v.strictObject({ tap: v.string(), uid: v.nullable(Whole) })),
      dm: v.array(v.string()),
      /** `mark` tells what it belongs to: `banger-base`, or `banger-cow-<vm>`. */
      loops: v.array(v.strictObject({ device: v.string(), mark: v.string() })),
      mounts: v.array(v.string()),
      jails: v.array(v.string()),
      /** COW files by VM id, with the bytes actually allocated. */
      cow_files: v.array(v.strictObject({ vm: v.string(), allocated_bytes: Whole })),
      /** Guests with NAT, and their taps. */
      nat_rules: v.array(v.strictObject({ tap: v.string(), guest_ip: v.string() })),
      /** The tables, chains, rules and switches that banger has in the host's network, by name. */
      walls: v.array(v.string()),
      scopes: v.array(v.strictObject({ vm: v.string(), pids: v.array(Whole) })),
      /** The VMs that hold a uid. */
      slots: v.array(v.strictObject({ vm: v.string(), uid: Whole })),
    }),
    errors: [],
  }),
  "priv.ping": verb({
    doc: "Reports the helper's version, pid and owner.",
    input: Nothing,
    output: v.strictObject({ version: v.string(), helper_version: Whole, pid: Whole, owner_uid: Whole }),
    errors: [],
  }),
} as const satisfies Record<string, VerbShape>;

export type HelperVerbs = typeof HELPER_VERBS;
export type HelperVerbName = keyof HelperVerbs;
/** What the daemon sends. */
export type HelperInputOf<V extends HelperVerbName> = v.InferInput<HelperVerbs[V]["input"]>;
/** What a verb receives, validated. */
export type HelperParsedInputOf<V extends HelperVerbName> = v.InferOutput<HelperVerbs[V]["input"]>;
export type HelperOutputOf<V extends HelperVerbName> = v.InferOutput<HelperVerbs[V]["output"]>;

/** The request's envelope. The verb's own schema checks `params` next. */
export const HelperRequest = v.strictObject({
  v: v.literal(HELPER_VERSION),
  method: v.pipe(v.string(), v.maxLength(64)),
  params: v.custom<Readonly<Record<string, unknown>>>(
    (value) => typeof value === "object" && value !== null && !Array.isArray(value),
    "an object",
  ),
  /** The operation it belongs to, written to both logs. */
  op: v.nullable(OperationId),
});
export type HelperRequest = v.InferOutput<typeof HelperRequest>;

/** The answer. `code` is from the error table. */
export type HelperAnswer =
  { readonly result: unknown } | { readonly error: { readonly code: ErrorCode; readonly message: string } };
