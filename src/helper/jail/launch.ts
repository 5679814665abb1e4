/**
 * Stages a jail and starts Firecracker in it. Sources: Firecracker docs/jailer.md, systemd-run(1),
 * systemd.resource-control(5).
 */

import { readFileSync } from "node:fs";
import { BangerError, isErrno } from "../../shared/errors.ts";
import { type HelperOutputOf, type HelperParsedInputOf, JAIL } from "../../shared/contract/helper-api.ts";
import { ACCESS_ACL, encodeAcl } from "./acl.ts";
import type { HelperContext } from "../context.ts";
import { findUnused } from "../disk/dm.ts";
import { resolveFirecracker } from "./firecracker.ts";
import { enforce, jailSocket, realTap } from "../gates.ts";
import { jailRoot, makeJail, mountRoot, removeJail } from "./jail.ts";
import { readInterface } from "../network/interfaces.ts";
import { openOwnersFile } from "../files/owner-files.ts";
import { tryTool } from "../run-tool.ts";
import { scopeName, VMS_SLICE } from "../../shared/host-names.ts";
import { findProcessOf, findVmProcess, killScope, scopePids } from "./scope.ts";
import { type Slot, takeSlot } from "./slots.ts";
import type { Descriptor } from "../sys/descriptors.ts";
import { readDmBytes } from "../sys/device-mapper.ts";
import { bindMount } from "../sys/mounts.ts";
import { forbidCoreFiles } from "../sys/processes.ts";
import { giveTap } from "../sys/taps.ts";

type Input = HelperParsedInputOf<"priv.launch_firecracker">;
type Output = HelperOutputOf<"priv.launch_firecracker">;

const JAILER_TIMEOUT_MS = 60_000;
/** Under two levels of emulation, Firecracker takes seconds to start. */
const SOCKET_TIMEOUT_MS = 30_000;
const OPEN_FILES_LIMIT = 4096;
/** Memory for the VMM itself, its page tables and its kernel buffers, in addition to the guest's memory. */
const VMM_MEMORY_MIB = 256;
const TASKS_LIMIT_PER_VCPU = 4;
const MIB = 1024 * 1024;
/** The daemon frees the space of old log lines, but the file's end only moves forward. No VM writes more than this. */
const LOG_ROOM_BYTES = 64 * 1024 * MIB;

const READ = 4;
const READ_WRITE = 6;

type Access = "read" | "write";

/** Turns an in-jail path into a name below the jail's root. */
const inRoot = (path: string): string => path.slice(1);

/** @throws BangerError of the contract, after undoing every step taken */
export async function launch(context: HelperContext, input: Input): Promise<Output> {
  const { vm } = input;
  if (scopePids(context, vm).length > 0) throw new BangerError("IN_USE", `${vm} is already running`);
  const program = resolveFirecracker(context);
  const slot = takeSlot(context, vm);
  await refuseUsedUid(slot);
  await removeJail(context, vm);
  try {
    using io = makeJail(context, vm, slot.uid);
    {
      using staged = mountRoot(context, vm, io, program.bytes);
      const found = await stage(context, input, slot, staged.root);
      if (input.tap !== null) handOverTap(input.tap, slot.uid);
      forbidCoreFiles();
      const userfault = findMiscDevice(readFileSync("/proc/misc", "utf8"), "userfaultfd");
      await runJailer(vm, jailerCommand(context, input, slot.uid, program, found, userfault));
      await waitForSocket(context, vm, slot, io);
    }
    using process = findVmProcess(context, vm);
    if (process === null) throw new BangerError("VMM_FAILED", `Firecracker of ${vm} exited immediately`);
    return {
      process: { pid: process.pid, start_ticks: process.startTicks },
      uid: slot.uid,
      firecracker_version: program.version,
      jail_root: jailRoot(context, vm),
      scope: scopeName(vm),
    };
  } catch (thrown) {
    await undo(context, vm, thrown);
    throw thrown;
  }
}

/** The attack: a process left by an earlier VM, outside its scope, reads the files of the next VM with that uid. */
async function refuseUsedUid({ vm, uid }: Slot): Promise<void> {
  const process = await findProcessOf(uid);
  if (process === null) return;
  throw new BangerError(
    "IN_USE",
    `process ${process} runs with uid ${uid}, which is reserved for ${vm}; to end it: sudo kill -KILL ${process}`,
  );
}

/** Undoes a failed launch. If that fails too, its message is appended to the first failure's. */
async function undo(context: HelperContext, vm: string, first: unknown): Promise<void> {
  try {
    await killScope(context, vm);
    await removeJail(context, vm);
  } catch (second) {
    const [a, b] = [first, second].map((thrown) => (thrown instanceof Error ? thrown.message : String(thrown)));
    throw new BangerError("VMM_FAILED", `${a}; undoing it failed too: ${b}`, { cause: first });
  }
}

/** What the jailer needs to know about the staged files. */
export interface Staged {
  /** The block device of the root drive; null if the root drive is a file. */
  readonly device: { readonly major: number; readonly minor: number } | null;
  /** Size of the largest file or device that the VM may write. */
  readonly largestBytes: number;
}

/**
 * Puts the VM's boot files into the VMM's root. The owner's files are mounted, not copied or linked: the VMM sees
 * exactly the file whose descriptor was checked. Exported for the tests that attack it.
 */
export async function stage(context: HelperContext, input: Input, { uid }: Slot, root: Descriptor): Promise<Staged> {
  const { vm, kernel } = input;
  shareFile(context, `kernels/${kernel}/vmlinux`, root, JAIL.kernel);
  if (input.initrd) shareFile(context, `kernels/${kernel}/initrd.img`, root, JAIL.initrd);
  const workBytes = giveDisk(context, `vms/${vm}/work.ext4`, root, JAIL.workDrive, uid, "write");
  giveDisk(context, `vms/${vm}/identity.img`, root, JAIL.identityDrive, uid, "read");
  if (input.root === "file") {
    const rootBytes = giveDisk(context, `vms/${vm}/root.ext4`, root, JAIL.rootDrive, uid, "write");
    return { device: null, largestBytes: Math.max(workBytes, rootBytes) };
  }
  const device = await findUnused(vm);
  makeDiskNode(root, inRoot(JAIL.rootDrive), device, uid);
  return { device, largestBytes: Math.max(workBytes, readDmBytes(device)) };
}

/**
 * Makes the node of a VM's disk. Root owns it and the VM has it through its group: the VM can't change its mode, so
 * nobody it passes a descriptor to can reopen the node. Exported for the tests that attack it.
 */
export function makeDiskNode(
  root: Descriptor,
  name: string,
  device: { readonly major: number; readonly minor: number },
  uid: number,
): void {
  root.makeBlockNode(name, device.major, device.minor);
  using node = root.openPath(name);
  node.chown(0, uid);
  node.chmod(0o660);
}

/** Shares a file that several VMs read. The mount is read-only, whatever access the VM's uid has to the file. */
function shareFile(context: HelperContext, path: string, root: Descriptor, target: string): void {
  using file = openOwnersFile(context, path, "KERNEL_NOT_FOUND", { onlyName: false });
  // Lets the VM's uid read it. A kernel is no secret, and only the owner can enter its directory.
  file.chmod(file.stat().mode | 0o004);
  mountFile(file, root, target, "read");
}

/**
 * Gives a VM access to one of the owner's disk files, through an access list that the owner could set too. The owner
 * keeps the file; ownership never changes. Returns the file's size.
 */
function giveDisk(
  context: HelperContext,
  path: string,
  root: Descriptor,
  target: string,
  uid: number,
  access: Access,
): number {
  using file = openOwnersFile(context, path, "VM_NOT_FOUND", { onlyName: true });
  file.setAttribute(
    ACCESS_ACL,
    encodeAcl({ owner: READ_WRITE, users: new Map([[uid, access === "read" ? READ : READ_WRITE]]) }),
  );
  mountFile(file, root, target, access);
  return file.stat().bytes;
}

function mountFile(file: Descriptor, root: Descriptor, target: string, access: Access): void {
  root.makeFile(inRoot(target))[Symbol.dispose]();
  bindMount(file, root, inRoot(target), access);
}

function handOverTap(tap: string, uid: number): void {
  const link = readInterface(tap);
  if (link === null) throw new BangerError("FAILED", `${tap} does not exist`);
  enforce(realTap, { link });
  try {
    giveTap(tap, uid);
  } catch (thrown) {
    if (isErrno(thrown, "EBUSY")) throw new BangerError("IN_USE", `${tap} is open`, { cause: thrown });
    throw thrown;
  }
}

/** The major number of `misc` devices. */
const MISC_MAJOR = 10;

/**
 * The devices that the VMM may open or make nodes of, in systemd's form. `closed` adds the usual ones (null, zero,
 * random, …).
 */
function deviceRules(device: Staged["device"], userfault: number | null): readonly string[] {
  return [
    "/dev/kvm rwm",
    "/dev/net/tun rwm",
    // By number: the jailer makes this node if the kernel lists the device, even if the host has no node for it.
    ...(userfault === null ? [] : [`/dev/char/${MISC_MAJOR}:${userfault} rwm`]),
    ...(device === null ? [] : [`/dev/block/${device.major}:${device.minor} rw`]),
  ];
}

/** Finds a device's minor number in the text of /proc/misc; null if it isn't listed. Pure. */
export function findMiscDevice(misc: string, name: string): number | null {
  const minor = new RegExp(`^\\s*(\\d+) ${name}$`, "m").exec(misc)?.[1];
  return minor === undefined ? null : Number(minor);
}

/**
 * The arguments with which `systemd-run` starts the jailer. All that comes from a caller is checked ids and numbers.
 * Pure.
 */
export function jailerCommand(
  { paths }: Pick<HelperContext, "paths">,
  { vm, vcpu, memory_mib }: Pick<Input, "vm" | "vcpu" | "memory_mib">,
  uid: number,
  program: { readonly firecracker: string; readonly jailer: string },
  { device, largestBytes }: Staged,
  userfault: number | null,
): readonly string[] {
  const properties = [
    `MemoryMax=${memory_mib + VMM_MEMORY_MIB}M`,
    "MemorySwapMax=0",
    // One CPU more than the guest has, for the VMM's own thread and the kernel's virtio workers.
    `CPUQuota=${(vcpu + 1) * 100}%`,
    `TasksMax=${32 + vcpu * TASKS_LIMIT_PER_VCPU}`,
    // The guest's packets go through the tap; the VMM itself needs no network.
    "IPAddressDeny=any",
    "DevicePolicy=closed",
    ...deviceRules(device, userfault).map((rule) => `DeviceAllow=${rule}`),
  ];
  // The limit must allow the disks, the guest's memory if it is a file, and the logs, which only grow while the VM
  // runs.
  const fileBytes = Math.max(largestBytes, memory_mib * MIB) + LOG_ROOM_BYTES;
  return [
    "--scope",
    "--collect",
    "--quiet",
    `--slice=${VMS_SLICE}`,
    `--unit=${scopeName(vm)}`,
    ...properties.map((property) => `--property=${property}`),
    "--",
    program.jailer,
    ...["--id", vm],
    ...["--exec-file", program.firecracker],
    ...["--uid", String(uid), "--gid", String(uid)],
    ...["--chroot-base-dir", paths.jailDir],
    ...["--cgroup-version", "2"],
    ...["--resource-limit", `no-file=${OPEN_FILES_LIMIT}`],
    ...["--resource-limit", `fsize=${fileBytes}`],
    "--daemonize",
    "--new-pid-ns",
    "--",
    ...["--api-sock", JAIL.apiSocket],
  ];
}

async function runJailer(vm: string, command: readonly string[]): Promise<void> {
  const { exitCode, stdout, stderr } = await tryTool("systemd-run", command, {
    timeoutMs: JAILER_TIMEOUT_MS,
    // A socket's mode is 0777 minus the umask. The group bits must remain, because they are the access list's mask.
    umask: 0o007,
  });
  if (exitCode === 0) return;
  const said = `${new TextDecoder().decode(stdout)}${stderr}`.trim().split("\n").slice(-3).join("; ");
  throw new BangerError("VMM_FAILED", `the jailer of ${vm} exited with status ${exitCode}: ${said}`);
}

/** Waits until the API socket exists and belongs to the VM. The launcher's exit doesn't tell whether it does. */
async function waitForSocket(context: HelperContext, vm: string, slot: Slot, io: Descriptor): Promise<void> {
  const deadline = Date.now() + SOCKET_TIMEOUT_MS;
  for (let waitMs = 1; !hasSocket(io, slot.uid); waitMs = Math.min(waitMs * 2, 20)) {
    if (scopePids(context, vm).length === 0 && !hasSocket(io, slot.uid)) {
      throw new BangerError("VMM_FAILED", `Firecracker of ${vm} exited before its API answered`);
    }
    if (Date.now() > deadline) {
      throw new BangerError(
        "VMM_FAILED",
        `the API socket of ${vm} did not appear within ${SOCKET_TIMEOUT_MS / 1000} s`,
      );
    }
    await Bun.sleep(waitMs);
  }
}

function hasSocket(io: Descriptor, uid: number): boolean {
  try {
    using socket = io.openPath(JAIL.apiSocket.slice(JAIL.io.length + 1));
    enforce(jailSocket, { file: { ...socket.stat(), label: JAIL.apiSocket }, uid });
    return true;
  } catch (thrown) {
    if (isErrno(thrown, "ENOENT")) return false;
    if (isErrno(thrown, "ELOOP")) {
      throw new BangerError("HELPER_REFUSED", `${JAIL.apiSocket} is a link`, { cause: thrown });
    }
    throw thrown;
  }
}
