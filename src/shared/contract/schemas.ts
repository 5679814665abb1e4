/** Building blocks of both contracts: branded ids, names, and the records that cross the API. */

import * as v from "valibot";
import { describeLimits, type LimitedField, SPEC_LIMITS } from "./limits.ts";
import { IMAGE_NAME_PATTERN, NAME_PATTERN } from "./names.ts";

/** A VM's name: it reaches hostnames, DNS, kernel arguments and paths, so it is checked at every boundary. */
export const VmName = v.pipe(
  v.string(),
  v.regex(NAME_PATTERN, "names are 1 to 63 of a-z, 0-9 and hyphen, no hyphen at either end"),
);

/** 12 lower-case hex digits, random, never reused. */
export const VmId = v.pipe(v.string(), v.regex(/^[0-9a-f]{12}$/), v.brand("VmId"));
export type VmId = v.InferOutput<typeof VmId>;

/** A name, an id, or an unambiguous prefix of an id. */
export const VmRef = v.pipe(v.string(), v.minLength(1), v.maxLength(63));

export const ImageName = v.pipe(
  v.string(),
  v.regex(IMAGE_NAME_PATTERN, "image names are 1 to 64 of a-z, 0-9, dot, underscore and hyphen"),
);
export const KernelName = ImageName;

export const OperationId = v.pipe(v.string(), v.regex(/^op-[0-9a-f]{12}$/));
export type OperationId = v.InferOutput<typeof OperationId>;

const Whole = v.pipe(v.number(), v.safeInteger(), v.minValue(0));
/** RFC 3339, UTC. */
const Timestamp = v.pipe(v.string(), v.isoTimestamp());

export const VM_STATES = ["created", "starting", "running", "stopping", "stopped", "error"] as const;
export const VmState = v.picklist(VM_STATES);
export type VmState = v.InferOutput<typeof VmState>;

function limited(field: LimitedField) {
  const { least, most } = SPEC_LIMITS[field];
  const rule = `must be ${describeLimits(field)}`;
  return v.pipe(Whole, v.minValue(least, rule), v.maxValue(most, rule));
}

/** What the VM was asked to be. Memory in MiB, disks in bytes. */
export const VmSpec = v.strictObject({
  vcpu: limited("vcpu"),
  memoryMiB: limited("memoryMiB"),
  /** Size of the work disk mounted at /root. */
  diskBytes: limited("diskBytes"),
  /** Size the guest sees for its root disk; never below the image's own. */
  systemOverlayBytes: limited("systemOverlayBytes"),
  /** Whether the guest reaches beyond the host. */
  nat: v.boolean(),
});
export type VmSpec = v.InferOutput<typeof VmSpec>;

/** What a create makes on this host, flags and configuration applied. */
export const ResolvedSpec = v.strictObject({
  image: ImageName,
  imagePresent: v.boolean(),
  spec: VmSpec,
  acceleration: v.picklist(["kvm", "tcg"]),
  accelerationReason: v.string(),
});
export type ResolvedSpec = v.InferOutput<typeof ResolvedSpec>;

export const Workspace = v.strictObject({
  guestPath: v.string(),
  sourcePath: v.string(),
  headCommit: v.string(),
});

export const VmRecord = v.strictObject({
  id: VmId,
  name: VmName,
  state: VmState,
  /** Why the VM is in `error`, or why it stopped when nobody asked. */
  reason: v.nullable(v.string()),
  image: ImageName,
  kernel: v.string(),
  spec: VmSpec,
  engine: v.picklist(["qemu", "firecracker"]),
  acceleration: v.nullable(v.picklist(["kvm", "tcg"])),
  /** Process id of the VMM while it runs. */
  pid: v.nullable(Whole),
  /** Linux boot id of the guest, read when it became ready. */
  bootId: v.nullable(v.string()),
  /** Whether banger's agent in the guest answers; null when the VM doesn't run, or its guest was started without one. */
  agent: v.optional(v.nullable(v.picklist(["answers", "silent"])), null),
  /** Where sshd answers, `host:port`. */
  address: v.nullable(v.string()),
  /** The guest's own IPv4 address on the bridge, its for life; only in system mode. */
  guestIp: v.optional(v.nullable(v.pipe(v.string(), v.ipv4()))),
  workspace: v.nullable(Workspace),
  createdAt: Timestamp,
  startedAt: v.nullable(Timestamp),
  touchedAt: Timestamp,
});
export type VmRecord = v.InferOutput<typeof VmRecord>;

/** A guest reached by ssh. */
export const SshWayIn = v.strictObject({
  kind: v.literal("ssh"),
  id: VmId,
  name: VmName,
  /** The ssh program and every option up to and including the destination; append the remote command. */
  sshArgv: v.array(v.string()),
  /** Where commands run: the workspace, else /root. */
  workDir: v.string(),
  /**
   * ssh to the machine on which `sshArgv` works; append that line as one word. Set by a client that reaches the daemon
   * over ssh; left out, it is this machine.
   */
  via: v.optional(v.array(v.string())),
});
export type SshWayIn = v.InferOutput<typeof SshWayIn>;

/** A guest reached through banger's agent in it. */
export const AgentWayIn = v.strictObject({
  kind: v.literal("agent"),
  id: VmId,
  name: VmName,
  /** Where commands run: the workspace, else /root. */
  workDir: v.string(),
  /** The agent's place on the machine that the VM runs on: vsock below the VM's jail, or the directory of its serial ports' sockets. */
  channel: v.variant("kind", [
    v.strictObject({ kind: v.literal("vsock"), jailRoot: v.string() }),
    v.strictObject({ kind: v.literal("serial"), directory: v.string() }),
  ]),
  /** As of {@link SshWayIn}: ssh to the machine of `channel`. */
  via: v.optional(v.array(v.string())),
});
export type AgentWayIn = v.InferOutput<typeof AgentWayIn>;

/** The ways into a guest. A client refuses a kind that it doesn't know. */
export const WAYS_IN = ["agent", "ssh"] as const;
export const WayIn = v.variant("kind", [SshWayIn, AgentWayIn]);
export type WayIn = v.InferOutput<typeof WayIn>;

export const VmStats = v.strictObject({
  id: VmId,
  name: VmName,
  /** Percent of one host CPU, over the interval since the previous sample (or since start). */
  cpuPercent: v.number(),
  memoryBytes: Whole,
  /** Bytes really allocated on the host by this VM's disks. */
  diskBytes: Whole,
  /** As counted by the guest's own interfaces; null when the guest does not answer. */
  rxBytes: v.nullable(Whole),
  txBytes: v.nullable(Whole),
});
export type VmStats = v.InferOutput<typeof VmStats>;

export const ImageRecord = v.strictObject({
  name: ImageName,
  distro: v.string(),
  release: v.string(),
  arch: v.string(),
  /** Where it was made from: archive URL, or the host path of a registered one. */
  source: v.string(),
  /** sha256 of rootfs.ext4, `sha256:<hex>`. */
  digest: v.string(),
  rootfsBytes: Whole,
  /** Bytes really allocated on disk. */
  allocatedBytes: Whole,
  kernel: v.nullable(v.string()),
  kernelVersion: v.nullable(v.string()),
  createdAt: Timestamp,
  /** How it was made: the tool and its version. */
  builtBy: v.string(),
  /** banger's own units inside; empty for a registered foreign image. */
  units: v.array(v.string()),
});
export type ImageRecord = v.InferOutput<typeof ImageRecord>;

export const KernelRecord = v.strictObject({
  name: KernelName,
  version: v.nullable(v.string()),
  arch: v.string(),
  source: v.string(),
  /** sha256 of the extracted ELF, `sha256:<hex>`. */
  digest: v.string(),
  bytes: Whole,
  hasInitrd: v.boolean(),
  createdAt: Timestamp,
});
export type KernelRecord = v.InferOutput<typeof KernelRecord>;

export const DoctorRow = v.strictObject({
  check: v.string(),
  level: v.picklist(["PASS", "WARN", "FAIL"]),
  message: v.string(),
  /** The exact fix: a command or an action. */
  fix: v.nullable(v.string()),
});
export type DoctorRow = v.InferOutput<typeof DoctorRow>;

export const Port = v.strictObject({
  vm: VmName,
  port: Whole,
  process: v.nullable(v.string()),
  /** `127.0.0.1:port` where a forward of this port listens on the host; null when there is none. */
  forward: v.nullable(v.string()),
  url: v.nullable(v.string()),
});
export type Port = v.InferOutput<typeof Port>;

export const Forward = v.strictObject({
  vm: VmName,
  hostAddress: v.string(),
  hostPort: Whole,
  guestPort: Whole,
});
export type Forward = v.InferOutput<typeof Forward>;

/** One thing `gc` found that no VM owns. */
export const Leftover = v.strictObject({
  kind: v.picklist(["process", "directory", "file", "socket", "journal", "jail", "disk", "rule", "tap", "uid"]),
  what: v.string(),
});
export type Leftover = v.InferOutput<typeof Leftover>;

export const OperationRecord = v.strictObject({
  id: OperationId,
  method: v.string(),
  state: v.picklist(["running", "done", "failed", "cancelled"]),
  startedAt: Timestamp,
  /** The newest progress line. */
  stage: v.nullable(v.string()),
});
export type OperationRecord = v.InferOutput<typeof OperationRecord>;
