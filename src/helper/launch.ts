/**
 * Staging a jail and starting Firecracker in it. Sources: Firecracker docs/jailer.md, systemd-run(1),
 * systemd.resource-control(5).
 */

import { lstatSync } from "node:fs";
import { BangerError, isErrno } from "../shared/errors.ts";
import { type HelperOutputOf, type HelperParsedInputOf, JAIL } from "../shared/helper-contract.ts";
import { ACCESS_ACL, encodeAcl } from "./acl.ts";
import type { HelperContext } from "./context.ts";
import { findUnused } from "./dm.ts";
import { listLibraries, resolveFirecracker } from "./firecracker.ts";
import { enforce, jailSocket, realTap } from "./gates.ts";
import { admitOwner, copyLibraries, jailRoot, makeJail, openJailRoot, removeJail } from "./jail.ts";
import { readInterface } from "./network.ts";
import { linkOrCopy, openOwnersFile } from "./owner-files.ts";
import { tryTool } from "./run-tool.ts";
import { findVmProcess, killScope, scopeName, scopePids, SLICE } from "./scope.ts";
import { type Slot, takeSlot } from "./slots.ts";
import type { Descriptor } from "./sys/descriptors.ts";
import { giveTap } from "./sys/taps.ts";

type Input = HelperParsedInputOf<"priv.launch_firecracker">;
type Output = HelperOutputOf<"priv.launch_firecracker">;

const JAILER_TIMEOUT_MS = 60_000;
/** Emulated two levels deep, Firecracker takes seconds to come up. */
const SOCKET_TIMEOUT_MS = 30_000;
const OPEN_FILES_LIMIT = 4096;
/** What the VMM itself, its page tables and the kernel's buffers for it may take beyond the guest's memory. */
const VMM_MEMORY_MIB = 256;
const TASKS_LIMIT_PER_VCPU = 4;

const READ = 4;
const READ_WRITE = 6;

/** The name below the jail's root of an in-jail path. */
const inRoot = (path: string): string => path.slice(1);

/** @throws BangerError of the contract; whatever had been done is undone. */
export async function launch(context: HelperContext, input: Input): Promise<Output> {
  const { vm } = input;
  if (scopePids(context, vm).length > 0) throw new BangerError("IN_USE", `${vm} runs already`);
  const program = resolveFirecracker(context);
  const libraries = await listLibraries(program.firecracker);
  const slot = takeSlot(context, vm);
  removeJail(context, vm);
  try {
    using root = makeJail(context, vm, slot.uid);
    await stage(context, input, slot, root);
    copyLibraries(root, libraries, slot.uid);
    if (input.tap !== null) handOverTap(input.tap, slot.uid);
    await runJailer(context, input, slot, program);
    await waitForSocket(context, vm, slot, root);
    admitOwner(root);
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

/** What fails here is added to the first failure's message, which stays the one that counts. */
async function undo(context: HelperContext, vm: string, first: unknown): Promise<void> {
  try {
    await killScope(context, vm);
    removeJail(context, vm);
  } catch (second) {
    const [a, b] = [first, second].map((thrown) => (thrown instanceof Error ? thrown.message : String(thrown)));
    throw new BangerError("VMM_FAILED", `${a}; then undoing it failed: ${b}`, { cause: first });
  }
}

/** Puts into the jail what the VM boots from. Exported for the tests that attack it. */
export async function stage(context: HelperContext, input: Input, { uid }: Slot, root: Descriptor): Promise<void> {
  const { vm, kernel } = input;
  const boot: readonly (readonly [file: string, name: string])[] = [
    ["vmlinux", JAIL.kernel],
    ...(input.initrd ? [["initrd.img", JAIL.initrd] as const] : []),
  ];
  for (const [name, target] of boot) {
    using file = openOwnersFile(context, `kernels/${kernel}/${name}`, "KERNEL_NOT_FOUND", { onlyName: false });
    // Readable for the VM's uid. A kernel is no secret, and its directory stays the owner's alone.
    file.chmod(file.stat().mode | 0o004);
    linkOrCopy(file, root, inRoot(target), uid);
  }
  giveDisk(context, `vms/${vm}/work.ext4`, root, inRoot(JAIL.workDrive), uid);
  giveDisk(context, `vms/${vm}/identity.img`, root, inRoot(JAIL.identityDrive), uid, READ);
  if (input.root === "file") {
    giveDisk(context, `vms/${vm}/root.ext4`, root, inRoot(JAIL.rootDrive), uid);
    return;
  }
  const dm = await findUnused(vm);
  root.makeBlockNode(inRoot(JAIL.rootDrive), dm.major, dm.minor);
  using node = root.openPath(inRoot(JAIL.rootDrive));
  node.chown(uid, uid);
}

/**
 * Gives a disk file of the owner's to the VM: an access list on the file (which its owner could set, too), and a second
 * name in the jail. The file stays the owner's; nothing is ever given away or taken.
 */
function giveDisk(
  context: HelperContext,
  path: string,
  root: Descriptor,
  name: string,
  uid: number,
  access = READ_WRITE,
): void {
  using file = openOwnersFile(context, path, "VM_NOT_FOUND", { onlyName: true });
  file.setAttribute(ACCESS_ACL, encodeAcl({ owner: READ_WRITE, users: new Map([[uid, access]]) }));
  try {
    root.link(file, name);
  } catch (thrown) {
    if (!isErrno(thrown, "EXDEV")) throw thrown;
    throw new BangerError("HOST_UNSUPPORTED", "the owner's state and the jails must be on one file system", {
      cause: thrown,
    });
  }
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

/** Arguments of `systemd-run` that start the jailer. Nothing in them came from a caller but checked ids and numbers. Pure. */
export function jailerCommand(
  { paths }: Pick<HelperContext, "paths">,
  { vm, vcpu, memory_mib }: Pick<Input, "vm" | "vcpu" | "memory_mib">,
  uid: number,
  program: { readonly firecracker: string; readonly jailer: string },
): readonly string[] {
  return [
    "--scope",
    "--collect",
    "--quiet",
    `--slice=${SLICE}`,
    `--unit=${scopeName(vm)}`,
    `--property=MemoryMax=${memory_mib + VMM_MEMORY_MIB}M`,
    // One more for the VMM's own thread and the kernel's virtio workers.
    `--property=CPUQuota=${(vcpu + 1) * 100}%`,
    `--property=TasksMax=${32 + vcpu * TASKS_LIMIT_PER_VCPU}`,
    "--",
    program.jailer,
    ...["--id", vm],
    ...["--exec-file", program.firecracker],
    ...["--uid", String(uid), "--gid", String(uid)],
    ...["--chroot-base-dir", paths.jailDir],
    ...["--cgroup-version", "2"],
    ...["--resource-limit", `no-file=${OPEN_FILES_LIMIT}`],
    "--daemonize",
    "--new-pid-ns",
    "--",
    ...["--api-sock", JAIL.apiSocket],
  ];
}

async function runJailer(
  context: HelperContext,
  input: Input,
  { uid }: Slot,
  program: { readonly firecracker: string; readonly jailer: string },
): Promise<void> {
  const { exitCode, stdout, stderr } = await tryTool("systemd-run", jailerCommand(context, input, uid, program), {
    timeoutMs: JAILER_TIMEOUT_MS,
    // A socket's mode is 0777 without the umask's bits: the group bits must stay, they are the list's mask.
    umask: 0o007,
  });
  if (exitCode === 0) return;
  const said = `${new TextDecoder().decode(stdout)}${stderr}`.trim().split("\n").slice(-3).join("; ");
  throw new BangerError("VMM_FAILED", `the jailer of ${input.vm} ended with ${exitCode}: ${said}`);
}

/** Waits until the API socket is there, and is the VM's: the launcher's own exit says nothing. */
async function waitForSocket(context: HelperContext, vm: string, slot: Slot, root: Descriptor): Promise<void> {
  const deadline = Date.now() + SOCKET_TIMEOUT_MS;
  for (let waitMs = 1; !hasSocket(root, slot.uid); waitMs = Math.min(waitMs * 2, 20)) {
    if (scopePids(context, vm).length === 0 && !hasSocket(root, slot.uid)) {
      throw new BangerError("VMM_FAILED", `Firecracker of ${vm} ended before its API answered`);
    }
    if (Date.now() > deadline) {
      throw new BangerError("VMM_FAILED", `the API socket of ${vm} was not there after ${SOCKET_TIMEOUT_MS / 1000} s`);
    }
    await Bun.sleep(waitMs);
  }
}

function hasSocket(root: Descriptor, uid: number): boolean {
  try {
    // A cheap look first; what counts is asked of the descriptor.
    lstatSync(`${root.procPath}${JAIL.apiSocket}`);
    using socket = root.openPath(inRoot(JAIL.apiSocket));
    enforce(jailSocket, { file: { ...socket.stat(), label: JAIL.apiSocket }, uid });
    return true;
  } catch (thrown) {
    if (isErrno(thrown, "ENOENT")) return false;
    if (isErrno(thrown, "ELOOP") || isErrno(thrown, "ENOTDIR")) {
      throw new BangerError("HELPER_REFUSED", `${JAIL.apiSocket} is a link`, { cause: thrown });
    }
    throw thrown;
  }
}

/**
 * Opens a running VM's jail to the owner again. @throws BangerError VM_NOT_FOUND when it doesn't run or has no API
 * socket yet.
 */
export function admit(context: HelperContext, vm: string): string {
  using process = findVmProcess(context, vm);
  using root = openJailRoot(context, vm);
  if (process === null || root === null || !hasSocket(root, process.uid)) {
    throw new BangerError("VM_NOT_FOUND", `${vm} does not run`);
  }
  admitOwner(root);
  return jailRoot(context, vm);
}
