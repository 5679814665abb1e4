/**
 * The owner API: every method declared once. From this table come the typed client, the server's
 * dispatch, validation at both ends, the OpenAPI document and the reference page.
 *
 * Wire: `POST /v1/<method>` with a JSON object. A plain method answers `{"result": …}` or
 * `{"error": …}`. A method with `stream: true` answers `application/x-ndjson`, one {@link StreamEvent} per line, the
 * last one `result` or `error`; closing the connection cancels it (and undoes what it did), unless
 * the request carried `banger-detach: 1`.
 */

import * as v from "valibot";
import type { ErrorCode, ErrorDocument } from "../errors.ts";
import {
  DoctorRow,
  Forward,
  ImageName,
  ImageRecord,
  KernelName,
  KernelRecord,
  Leftover,
  OperationId,
  OperationRecord,
  Port,
  ResolvedSpec,
  VmName,
  VmRecord,
  VmRef,
  VmSpec,
  VmStats,
  WAYS_IN,
  WayIn,
} from "./schemas.ts";

export { API_LEVEL, MINIMUM_API_LEVEL } from "./api-level.ts";

export interface Progress {
  /** A stable word: `image`, `disk`, `boot`, `ready`, … */
  readonly stage: string;
  /** A sentence for a person. */
  readonly message: string;
  readonly done?: number;
  readonly total?: number;
}

/** A line of a streamed answer. `data` carries a log's text; bytes that aren't UTF-8 are in `base64` as well. */
export type StreamEvent =
  | { readonly event: "operation"; readonly id: string }
  /** What a create makes: the first word about it, before an image is built for it. */
  | ({ readonly event: "spec" } & ResolvedSpec)
  | ({ readonly event: "progress" } & Progress)
  | { readonly event: "data"; readonly data: string; readonly base64?: string }
  | { readonly event: "result"; readonly result: unknown }
  | { readonly event: "error"; readonly error: ErrorDocument };

type Schema = v.GenericSchema;
interface MethodShape {
  readonly summary: string;
  readonly input: Schema;
  readonly output: Schema;
  readonly stream?: boolean;
  readonly errors: readonly ErrorCode[];
}
const method = <const I extends Schema, const O extends Schema>(m: {
  summary: string;
  input: I;
  output: O;
  stream?: boolean;
  errors: readonly ErrorCode[];
}) => m;

const Nothing = v.strictObject({});
const One = v.strictObject({ vm: VmRef });
/** Answer of a method on several VMs: in the order asked, the good ones done though others failed. */
const ManyResult = v.array(
  v.strictObject({
    ref: v.string(),
    vm: v.nullable(VmRecord),
    error: v.nullable(v.custom<ErrorDocument>((x) => typeof x === "object", "an error document")),
  }),
);
const Many = v.strictObject({ vms: v.pipe(v.array(VmRef), v.minLength(1), v.maxLength(256)) });

const VmCreateInput = v.strictObject({
  name: v.optional(VmName),
  image: v.optional(ImageName),
  kernel: v.optional(KernelName),
  spec: v.optional(v.partial(VmSpec), {}),
  start: v.boolean(),
});

export const METHODS = {
  "system.ping": method({
    summary: "Returns the daemon's identity, version and API level.",
    input: Nothing,
    output: v.strictObject({
      version: v.string(),
      apiLevel: v.number(),
      minimumApiLevel: v.number(),
      mode: v.picklist(["rootless", "system"]),
      pid: v.number(),
      uid: v.number(),
      startedAt: v.string(),
      stateDir: v.string(),
      runtimeDir: v.string(),
    }),
    errors: [],
  }),
  "system.doctor": method({
    summary: "Checks this host from the daemon's side.",
    input: Nothing,
    output: v.array(DoctorRow),
    errors: [],
  }),
  "system.gc": method({
    summary: "Removes leftovers that belong to no VM, or only lists them with `dryRun`.",
    input: v.strictObject({ dryRun: v.boolean() }),
    output: v.array(Leftover),
    errors: [],
  }),
  "system.shutdown": method({
    summary: "Stops the daemon; VMs keep running.",
    input: Nothing,
    output: v.strictObject({ runningVms: v.number() }),
    errors: [],
  }),

  "operation.list": method({
    summary: "Lists operations that are running or ended recently.",
    input: Nothing,
    output: v.array(OperationRecord),
    errors: [],
  }),
  "operation.watch": method({
    summary: "Follows an operation to its end.",
    input: v.strictObject({ id: OperationId }),
    output: v.unknown(),
    stream: true,
    errors: ["OPERATION_NOT_FOUND"],
  }),
  "operation.cancel": method({
    summary: "Cancels an operation and undoes its work.",
    input: v.strictObject({ id: OperationId }),
    output: Nothing,
    errors: ["OPERATION_NOT_FOUND"],
  }),

  "vm.create": method({
    summary: "Creates a VM, building its image first if needed, and starts it if `start` is true.",
    input: VmCreateInput,
    output: VmRecord,
    stream: true,
    errors: [
      "INVALID_NAME",
      "ALREADY_EXISTS",
      "IMAGE_NOT_BUILT",
      "IMAGE_NOT_FOUND",
      "KERNEL_NOT_FOUND",
      "IMAGE_BUILD_FAILED",
      "TOOL_MISSING",
      "NO_SPACE",
      "VMM_FAILED",
      "GUEST_NOT_READY",
      "CANCELLED",
    ],
  }),
  "vm.resolveSpec": method({
    summary: "Returns the spec that a create with these values would use, and where each value comes from.",
    input: v.strictObject({ image: v.optional(ImageName), spec: v.optional(v.partial(VmSpec), {}) }),
    output: ResolvedSpec,
    errors: ["CONFIG_INVALID"],
  }),
  "vm.start": method({
    summary: "Starts stopped VMs and waits until each is ready.",
    input: Many,
    output: ManyResult,
    stream: true,
    errors: ["VM_NOT_FOUND", "WRONG_STATE", "VMM_FAILED", "GUEST_NOT_READY"],
  }),
  "vm.stop": method({
    summary: "Stops VMs and keeps their disks.",
    input: Many,
    output: ManyResult,
    stream: true,
    errors: ["VM_NOT_FOUND", "WRONG_STATE"],
  }),
  "vm.restart": method({
    summary: "Stops VMs and starts them again.",
    input: Many,
    output: ManyResult,
    stream: true,
    errors: ["VM_NOT_FOUND", "WRONG_STATE"],
  }),
  "vm.kill": method({
    summary: "Sends a signal to VMs' monitors; KILL stops the VM.",
    input: v.strictObject({
      ...Many.entries,
      signal: v.optional(v.picklist(["TERM", "KILL", "INT", "HUP", "QUIT", "USR1", "USR2", "ABRT"]), "KILL"),
    }),
    output: ManyResult,
    stream: true,
    errors: ["VM_NOT_FOUND", "WRONG_STATE"],
  }),
  "vm.delete": method({
    summary: "Deletes VMs and their disks; stops running ones first.",
    input: Many,
    output: ManyResult,
    stream: true,
    errors: ["VM_NOT_FOUND"],
  }),
  "vm.list": method({
    summary: "Lists running VMs, or all if `all` is true.",
    input: v.strictObject({ all: v.boolean() }),
    output: v.array(VmRecord),
    errors: [],
  }),
  "vm.show": method({
    summary: "Returns one VM.",
    input: One,
    output: VmRecord,
    errors: ["VM_NOT_FOUND", "AMBIGUOUS"],
  }),
  "vm.stats": method({
    summary: "Returns the use of CPU, memory, disk and network; with no VM named, of all running VMs.",
    input: v.strictObject({ vms: v.array(VmRef) }),
    output: v.array(VmStats),
    errors: ["VM_NOT_FOUND"],
  }),
  "vm.logs": method({
    summary: "Sends the serial console or the VMM's log as `data` events.",
    input: v.strictObject({
      vm: VmRef,
      source: v.optional(v.picklist(["serial", "vmm"]), "serial"),
      follow: v.boolean(),
      tailLines: v.optional(v.number()),
    }),
    output: Nothing,
    stream: true,
    errors: ["VM_NOT_FOUND"],
  }),
  "vm.set": method({
    summary: "Changes a stopped VM; a disk can't shrink.",
    input: v.strictObject({ vm: VmRef, spec: v.partial(VmSpec) }),
    output: VmRecord,
    errors: ["VM_NOT_FOUND", "WRONG_STATE", "INVALID_VALUE"],
  }),
  "vm.connect": method({
    summary:
      "Returns a way into the guest, of a kind that the client `accepts` (only ssh when left out). Counts as use. For ssh, opens the shared control connection.",
    input: v.strictObject({
      vm: VmRef,
      accepts: v.optional(v.pipe(v.array(v.picklist(WAYS_IN)), v.minLength(1), v.maxLength(WAYS_IN.length)), ["ssh"]),
    }),
    output: WayIn,
    errors: ["VM_NOT_FOUND", "AMBIGUOUS", "WRONG_STATE", "GUEST_NOT_READY"],
  }),
  "vm.ports": method({
    summary: "Lists TCP ports that running guests listen on, and forwards without a listener.",
    input: v.strictObject({ vms: v.array(VmRef) }),
    output: v.array(Port),
    errors: ["VM_NOT_FOUND", "WRONG_STATE"],
  }),
  "vm.forward": method({
    summary: "Forwards a port on the host's loopback to a port in the guest, until removed or the VM stops.",
    input: v.strictObject({ vm: VmRef, hostPort: v.number(), guestPort: v.number() }),
    output: Forward,
    errors: ["VM_NOT_FOUND", "WRONG_STATE", "INVALID_VALUE", "IN_USE", "NO_ACCESS"],
  }),
  "vm.unforward": method({
    summary: "Removes a forward.",
    input: v.strictObject({ vm: VmRef, hostPort: v.number() }),
    output: Nothing,
    errors: ["VM_NOT_FOUND", "FORWARD_NOT_FOUND"],
  }),

  "image.build": method({
    summary: "Builds a catalog image; concurrent requests share one build.",
    input: v.strictObject({ name: ImageName, force: v.boolean() }),
    output: ImageRecord,
    stream: true,
    errors: [
      "IMAGE_NOT_BUILT",
      "IMAGE_NOT_FOUND",
      "IMAGE_BUILD_FAILED",
      "TOOL_MISSING",
      "ARCHIVE_FAILED",
      "NO_SPACE",
      "IN_USE",
      "CANCELLED",
    ],
  }),
  "image.register": method({
    summary: "Creates an image from files on this host, which are copied.",
    input: v.strictObject({ name: ImageName, rootfs: v.string(), kernel: KernelName }),
    output: ImageRecord,
    stream: true,
    errors: ["ALREADY_EXISTS", "KERNEL_NOT_FOUND", "INVALID_VALUE", "NO_SPACE"],
  }),
  "image.list": method({ summary: "Lists images.", input: Nothing, output: v.array(ImageRecord), errors: [] }),
  "image.show": method({
    summary: "Returns one image.",
    input: v.strictObject({ name: ImageName }),
    output: ImageRecord,
    errors: ["IMAGE_NOT_FOUND"],
  }),
  "image.delete": method({
    summary: "Deletes an image that no VM uses.",
    input: v.strictObject({ name: ImageName }),
    output: Nothing,
    errors: ["IMAGE_NOT_FOUND", "IN_USE"],
  }),

  "kernel.list": method({ summary: "Lists kernels.", input: Nothing, output: v.array(KernelRecord), errors: [] }),
  "kernel.show": method({
    summary: "Returns one kernel.",
    input: v.strictObject({ name: KernelName }),
    output: KernelRecord,
    errors: ["KERNEL_NOT_FOUND"],
  }),
  "kernel.import": method({
    summary: "Imports a kernel from a vmlinux, a bzImage, a .deb or a directory on this host.",
    input: v.strictObject({ name: KernelName, from: v.string(), initrd: v.optional(v.string()) }),
    output: KernelRecord,
    stream: true,
    errors: ["KERNEL_INVALID", "ALREADY_EXISTS", "TOOL_MISSING", "NO_SPACE"],
  }),
  "kernel.delete": method({
    summary: "Deletes a kernel that no image or VM uses.",
    input: v.strictObject({ name: KernelName }),
    output: Nothing,
    errors: ["KERNEL_NOT_FOUND", "IN_USE"],
  }),
} as const satisfies Record<string, MethodShape>;

export type Methods = typeof METHODS;
export type MethodName = keyof Methods;
/** What a caller passes (before defaults are filled in). */
export type InputOf<M extends MethodName> = v.InferInput<Methods[M]["input"]>;
/** What a handler gets (validated, defaults filled in). */
export type ParsedInputOf<M extends MethodName> = v.InferOutput<Methods[M]["input"]>;
export type OutputOf<M extends MethodName> = v.InferOutput<Methods[M]["output"]>;
