/**
 * Staging a jail and starting Firecracker in it. Sources: Firecracker docs/jailer.md, systemd-run(1),
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
/** Emulated two levels deep, Firecracker takes seconds to come up. */
const SOCKET_TIMEOUT_MS = 30_000;
const OPEN_FILES_LIMIT = 4096;
/** What the VMM itself, its page tables and the kernel's buffers for it may take beyond the guest's memory. */
const VMM_MEMORY_MIB = 256;
const TASKS_LIMIT_PER_VCPU = 4;
const MIB = 1024 * 1024;
/** The daemon frees what a log takes, but its end only moves on: more than this no VM prints in its life. */
const LOG_ROOM_BYTES = 64 * 1024 * MIB;

const READ = 4;
const READ_WRITE = 6;

type Access = "read" | "write";

/** The name below the jail's root of an in-jail path. */
const inRoot = (path: string): string => path.slice(1);

/** @throws BangerError of the contract; whatever had been done is undone. */
export async function launch(context: HelperContext, input: Input): Promise<Output> {
  const { vm } = input;
  if (scopePids(context, vm).length > 0) throw new BangerError("IN_USE", `${vm} runs already`);
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
    if (process === null) throw new BangerError("VMM_FAILED", `Firecracker of ${vm} ended at once`);
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

/** The attack: a process of an earlier VM, outside its scope, reads what the next VM with that uid has. */
async function refuseUsedUid({ vm, uid }: Slot): Promise<void> {
  const process = await findProcessOf(uid);
  if (process === null) return;
  throw new BangerError(
    "IN_USE",
    `process ${process} has the uid ${uid} of ${vm}; to end it: sudo kill -KILL ${process}`,
  );
}

/** What fails here is added to the first failure's message, which stays the one that counts. */
async function undo(context: HelperContext, vm: string, first: unknown): Promise<void> {
  try {
    await killScope(context, vm);
    await removeJail(context, vm);
  } catch (second) {
    const [a, b] = [first, second].map((thrown) => (thrown instanceof Error ? thrown.message : String(thrown)));
    throw new BangerError("VMM_FAILED", `${a}; then undoing it failed: ${b}`, { cause: first });
  }
}

/** What the jailer must be told of what was staged. */
export interface Staged {
  /** The block device of the root drive; null where that is a file. */
  readonly device: { readonly major: number; readonly minor: number } | null;
  /** Of the largest file or device that the VM may write. */
  readonly largestBytes: number;
}

/**
 * Puts into the VMM's root what the VM boots from. Files of the owner's are mounted, so nothing is copied, waited for or given a second name: the
 * descriptor that was checked is what is seen there. Exported for the tests that attack it.
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
  root.makeBlockNode(inRoot(JAIL.rootDrive), device.major, device.minor);
  using node = root.openPath(inRoot(JAIL.rootDrive));
  // Root's, with the VM's group: the VM can't change its mode, so whoever is handed a descriptor of it can't open it.
  node.chown(0, uid);
  node.chmod(0o660);
  return { device, largestBytes: Math.max(workBytes, readDmBytes(device)) };
}

/** A file that several VMs read: the mount is read-only, whatever the VM's uid may do to the file. */
function shareFile(context: HelperContext, path: string, root: Descriptor, target: string): void {
  using file = openOwnersFile(context, path, "KERNEL_NOT_FOUND", { onlyName: false });
  // Readable for the VM's uid. A kernel is no secret, and its directory stays the owner's alone.
  file.chmod(file.stat().mode | 0o004);
  mountFile(file, root, target, "read");
}

/**
 * Gives a disk file of the owner's to the VM, by an access list on the file (which its owner could set, too). The file stays the owner's;
 * nothing is ever given away or taken. Returns its size.
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
  if (link === null) throw new BangerError("FAILED", `there is no ${tap}`);
  enforce(realTap, { link });
  try {
    giveTap(tap, uid);
  } catch (thrown) {
    if (isErrno(thrown, "EBUSY")) throw new BangerError("IN_USE", `${tap} is open`, { cause: thrown });
    throw thrown;
  }
}

/** Of `misc` devices. */
const MISC_MAJOR = 10;

/** What the VMM may open or make a node of, as systemd is told; the usual ones (null, zero, random, …) come with `closed`. */
function deviceRules(device: Staged["device"], userfault: number | null): readonly string[] {
  return [
    "/dev/kvm rwm",
    "/dev/net/tun rwm",
    // By number: the jailer makes this node where the kernel lists it, even if the host has none.
    ...(userfault === null ? [] : [`/dev/char/${MISC_MAJOR}:${userfault} rwm`]),
    ...(device === null ? [] : [`/dev/block/${device.major}:${device.minor} rw`]),
  ];
}

/** The minor number of a device in the text of /proc/misc; null without it. Pure. */
export function findMiscDevice(misc: string, name: string): number | null {
  const minor = new RegExp(`^\\s*(\\d+) ${name}$`, "m").exec(misc)?.[1];
  return minor === undefined ? null : Number(minor);
}

/** Arguments of `systemd-run` that start the jailer. Nothing in them came from a caller but checked ids and numbers. Pure. */
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
    // One more for the VMM's own thread and the kernel's virtio workers.
    `CPUQuota=${(vcpu + 1) * 100}%`,
    `TasksMax=${32 + vcpu * TASKS_LIMIT_PER_VCPU}`,
    // The guest's packets go through the tap; the VMM itself speaks to nobody.
    "IPAddressDeny=any",
    "DevicePolicy=closed",
    ...deviceRules(device, userfault).map((rule) => `DeviceAllow=${rule}`),
  ];
  // Disks as they are; the guest's memory, where it is a file; and logs, which only grow while the VM runs.
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
    // A socket's mode is 0777 without the umask's bits: the group bits must stay, they are the list's mask.
    umask: 0o007,
  });
  if (exitCode === 0) return;
  const said = `${new TextDecoder().decode(stdout)}${stderr}`.trim().split("\n").slice(-3).join("; ");
  throw new BangerError("VMM_FAILED", `the jailer of ${vm} ended with ${exitCode}: ${said}`);
}

/** Waits until the API socket is there, and is the VM's: the launcher's own exit says nothing. */
async function waitForSocket(context: HelperContext, vm: string, slot: Slot, io: Descriptor): Promise<void> {
  const deadline = Date.now() + SOCKET_TIMEOUT_MS;
  for (let waitMs = 1; !hasSocket(io, slot.uid); waitMs = Math.min(waitMs * 2, 20)) {
    if (scopePids(context, vm).length === 0 && !hasSocket(io, slot.uid)) {
      throw new BangerError("VMM_FAILED", `Firecracker of ${vm} ended before its API answered`);
    }
    if (Date.now() > deadline) {
      throw new BangerError("VMM_FAILED", `the API socket of ${vm} was not there after ${SOCKET_TIMEOUT_MS / 1000} s`);
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
