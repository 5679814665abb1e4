/**
 * A VM's root disk: a persistent device-mapper snapshot over the image's shared, read-only loop. Source: kernel docs
 * device-mapper/snapshot and linear.
 *
 * Loops are attached with autoclear and held only by the dm device, so they disappear with it, however this process
 * ends.
 */

import { constants, ftruncateSync, unlinkSync } from "node:fs";
import { BangerError, isErrno } from "../../shared/errors.ts";
import { SNAPSHOT_LIMIT } from "../../shared/contract/helper-api.ts";
import { DM_PREFIX, dmBaseName, dmName, vmOfDm } from "../../shared/host-names.ts";
import type { HelperContext } from "../context.ts";
import { openCowFiles } from "../files/directories.ts";
import { dmIsOurs, enforce, rootsFile } from "../gates.ts";
import { dropNodes } from "../jail/jail.ts";
import { openOwnersFile, reopen } from "../files/owner-files.ts";
import { type Descriptor, openDevice } from "../sys/descriptors.ts";
import {
  createDm,
  type DmFacts,
  type DmTarget,
  listDmDevices,
  listDmParts,
  readDm,
  removeDm,
} from "../sys/device-mapper.ts";
import { attachLoop, detachLoop, listLoops, readLoop } from "../sys/loops.ts";

const BUSY_TIMEOUT_MS = 5000;
const BUSY_POLL_MS = 20;
const SECTOR_BYTES = 512;
/** 4 KiB, the size of a guest file system's writes, so that a write copies no more than it changes. */
const CHUNK_BYTES = 4096;
const MIB = 1024 * 1024;
/** The header, and room for the last metadata area. */
const COW_SLACK_BYTES = 16 * MIB;

/** The marks of loop devices. */
const BASE_MARK = "banger-base";
const cowMark = (vm: string): string => `banger-cow-${vm}`;
export const isOurMark = (mark: string): boolean => /^banger-(?:base|cow-[0-9a-f]{12})$/.test(mark);

const cowName = (vm: string): string => `${vm}.cow`;
const cowPath = ({ paths }: HelperContext, vm: string): string => `${paths.cowDir}/${cowName(vm)}`;

/**
 * The size of a COW file in which every chunk of the disk has changed: data, 16 bytes of metadata per chunk, header.
 */
export function cowBytesFor(rootBytes: number): number {
  return rootBytes + Math.ceil(rootBytes / CHUNK_BYTES) * 16 + COW_SLACK_BYTES;
}

/** The disk size for which a COW file of that size was made, in whole MiB: the inverse of {@link cowBytesFor}. */
export function rootBytesFor(cowBytes: number): number {
  const whole = Math.floor(((cowBytes - COW_SLACK_BYTES) * CHUNK_BYTES) / (CHUNK_BYTES + 16) / MIB) * MIB;
  return Math.max(0, whole);
}

/** What marks a dm device as the VM's: its name and this, `banger-<vm>` or `banger-<vm>-base`. */
const markOf = (name: string): string => `banger-${name.slice(DM_PREFIX.length)}`;

/** Lists the names of banger's dm devices. */
export const listDm = (): readonly string[] =>
  listDmDevices().flatMap(({ device, name, uuid }) => {
    const vm = vmOfDm(name);
    return vm !== null && dmIsOurs.check(ownershipOf(vm, { device, name, uuid })) === null ? [name] : [];
  });

/** The facts that tell whether a device belongs to the VM. */
function ownershipOf(
  vm: string,
  { device, name, uuid }: { readonly device: string; readonly name: string; readonly uuid: string },
): Parameters<typeof dmIsOurs.check>[0] {
  return {
    name,
    uuid,
    mark: markOf(name),
    parts: uuid === "" ? listDmParts(device).map(describePart) : [],
    ours: [BASE_MARK, cowMark(vm), dmBaseName(vm)],
  };
}

/**
 * Identifies what a device below belongs to: a loop's mark, another dm device's name, or else the kernel's own name.
 */
function describePart(device: string): string {
  if (!device.startsWith("loop")) return listDmDevices().find((each) => each.device === device)?.name ?? device;
  using loop = openDevice(`/dev/${device}`, true);
  return readLoop(loop)?.mark ?? device;
}

export interface Snapshot {
  readonly baseLoop: string;
  readonly cowLoop: string;
  readonly bytes: number;
  readonly kept: boolean;
}

/** @throws BangerError IMAGE_NOT_FOUND; IN_USE if a VMM has the device open; HELPER_REFUSED; FAILED */
export async function createSnapshot(
  context: HelperContext,
  vm: string,
  image: string,
  rootBytes: number,
): Promise<Snapshot> {
  using imageFile = openOwnersFile(context, `images/${image}/rootfs.ext4`, "IMAGE_NOT_FOUND", { onlyName: true });
  const imageBytes = imageFile.stat().bytes;
  if (imageBytes === 0 || imageBytes % SECTOR_BYTES !== 0) {
    throw new BangerError("FAILED", `the size of image ${image} is not a multiple of 512 bytes`);
  }
  await removeDevices(context, vm);
  refuseTooMany();
  using cow = openCow(context, vm);
  const before = cow.stat().bytes;
  const bytes = Math.max(imageBytes, Math.ceil(rootBytes / MIB) * MIB, rootBytesFor(before));
  if (cowBytesFor(bytes) > before) ftruncateSync(cow.fd, cowBytesFor(bytes));

  using base = shareLoop(imageFile);
  using cowLoop = attachLoop(cow, false, cowMark(vm));
  const sectors = bytes / SECTOR_BYTES;
  const imageSectors = imageBytes / SECTOR_BYTES;
  let origin = base.label;
  try {
    if (sectors > imageSectors) {
      const lengthened: readonly DmTarget[] = [
        { start: 0, length: imageSectors, type: "linear", parameters: `${base.label} 0` },
        { start: imageSectors, length: sectors - imageSectors, type: "zero", parameters: "" },
      ];
      const { major, minor } = createDm(dmBaseName(vm), markOf(dmBaseName(vm)), lengthened, "read");
      origin = `${major}:${minor}`;
    }
    const parameters = `${origin} ${cowLoop.label} P ${CHUNK_BYTES / SECTOR_BYTES} 1 discard_zeroes_cow`;
    const table: readonly DmTarget[] = [{ start: 0, length: sectors, type: "snapshot", parameters }];
    createDm(dmName(vm), markOf(dmName(vm)), table, "write");
  } catch (thrown) {
    await removeDevices(context, vm);
    throw thrown;
  }
  return { baseLoop: base.label, cowLoop: cowLoop.label, bytes, kept: before > 0 };
}

/**
 * Limits the number of snapshots: each uses kernel memory, of which the owner could otherwise take any amount. @throws
 * BangerError IN_USE
 */
function refuseTooMany(): void {
  const count = listDm().filter((name) => !name.endsWith("-base")).length;
  if (count < SNAPSHOT_LIMIT) return;
  throw new BangerError("IN_USE", `${count} root disks are in use, the maximum; stop a VM first: banger vm stop VM`);
}

/**
 * Removes the nodes of the VM's devices, then the devices; their loops disappear with them. @throws BangerError IN_USE
 * while the VM runs
 */
export async function removeDevices(context: HelperContext, vm: string): Promise<void> {
  await dropNodes(context, vm);
  // The base is open for as long as the snapshot is there.
  for (const name of [dmName(vm), dmBaseName(vm)]) {
    await whenUnused(vm, () => {
      try {
        removeOurs(vm, name);
        return "removed";
      } catch (thrown) {
        if (isErrno(thrown, "EBUSY")) return "busy";
        throw thrown;
      }
    });
  }
}

/**
 * Removes the device of that name if its mark says it is the VM's, so that a later device of that name is left alone.
 */
function removeOurs(vm: string, name: string): void {
  const facts = readDm(name);
  if (facts === null) return;
  enforce(dmIsOurs, ownershipOf(vm, { device: `dm-${facts.minor}`, name, uuid: facts.uuid }));
  removeDm(facts.uuid === "" ? { name } : { uuid: facts.uuid });
}

/** Tries again while the device is open: udev and similar tools open a new device for an instant. */
async function whenUnused<T>(vm: string, attempt: () => T | "busy"): Promise<T> {
  const deadline = Date.now() + BUSY_TIMEOUT_MS;
  for (;;) {
    const result = attempt();
    if (result !== "busy") return result;
    if (Date.now() > deadline) throw new BangerError("IN_USE", `the root snapshot of ${vm} is open`);
    await Bun.sleep(BUSY_POLL_MS);
  }
}

/** Finds the VM's snapshot, which must not be open. @throws BangerError VM_NOT_FOUND without one; IN_USE */
export async function findUnused(vm: string): Promise<DmFacts> {
  return await whenUnused(vm, () => {
    const facts = readDm(dmName(vm));
    if (facts === null) throw new BangerError("VM_NOT_FOUND", `${vm} has no root snapshot`);
    return facts.users > 0 ? "busy" : facts;
  });
}

/** Removes the COW file, and with it everything the guest wrote to its root disk. A missing file is not an error. */
export function discardCow(context: HelperContext, vm: string): void {
  using directory = openCowFiles(context);
  try {
    unlinkSync(`${directory.procPath}/${cowName(vm)}`);
  } catch (thrown) {
    if (!isErrno(thrown, "ENOENT")) throw thrown;
  }
}

/** Detaches loops of the VM's COW file that no dm device holds any more. Only another tool can have left one. */
export function detachStrayLoops(vm: string): void {
  for (const { device, facts } of listLoops()) {
    if (facts.mark !== cowMark(vm)) continue;
    using loop = openDevice(device, false);
    detachLoop(loop);
  }
}

export interface CowFile {
  readonly vm: string;
  readonly allocatedBytes: number;
}

export function listCowFiles(context: HelperContext): readonly CowFile[] {
  using directory = openCowFiles(context);
  return directory.names().flatMap((name) => {
    const vm = /^([0-9a-f]{12})\.cow$/.exec(name)?.[1];
    if (vm === undefined) return [];
    try {
      using file = directory.openPath(name);
      return [{ vm, allocatedBytes: file.stat().allocatedBytes }];
    } catch (thrown) {
      if (isErrno(thrown, "ENOENT")) return [];
      throw thrown;
    }
  });
}

/** Opens the COW file, or makes an empty one, which dm takes as a new, blank snapshot. */
function openCow(context: HelperContext, vm: string): Descriptor {
  using directory = openCowFiles(context);
  const file = directory.open(cowName(vm), constants.O_RDWR | constants.O_CREAT | constants.O_NOFOLLOW, {
    mode: 0o600,
  });
  try {
    enforce(rootsFile, { file: { ...file.stat(), label: cowPath(context, vm) } });
    return file;
  } catch (thrown) {
    file[Symbol.dispose]();
    throw thrown;
  }
}

/** Finds the image's read-only loop, by the file's device and inode, or attaches a new one. */
function shareLoop(image: Descriptor): Descriptor {
  const { identity } = image.stat();
  for (const { device } of listLoops()) {
    const loop = openDevice(device, true);
    // Held open from here on, so that it can't be detached and attached to another file between check and use.
    const facts = readLoop(loop);
    if (facts?.mark === BASE_MARK && facts.readOnly && facts.identity === identity) return loop;
    loop[Symbol.dispose]();
  }
  using readable = reopen(image, constants.O_RDONLY);
  return attachLoop(readable, true, BASE_MARK);
}
