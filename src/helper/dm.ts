/**
 * A VM's root disk: a persistent device-mapper snapshot over the image's shared, read-only loop. Source: dmsetup(8),
 * kernel docs device-mapper/snapshot and linear.
 *
 * Loops are attached with autoclear and held by the dm device alone, so they end with it, whatever ends this process.
 */

import { constants, ftruncateSync, readFileSync, unlinkSync } from "node:fs";
import { BangerError, isErrno } from "../shared/errors.ts";
import type { HelperContext } from "./context.ts";
import { openCowFiles } from "./directories.ts";
import { DM_PREFIX, enforce, rootsFile } from "./gates.ts";
import { dropNodes } from "./jail.ts";
import { openOwnersFile, reopen } from "./owner-files.ts";
import { runTool } from "./run-tool.ts";
import type { Descriptor } from "./sys/descriptors.ts";
import { attachLoop, detachLoop, listLoops, openLoop, readLoop } from "./sys/loops.ts";

const TIMEOUT_MS = 30_000;
const SECTOR_BYTES = 512;
/** 4 KiB: what a guest's file system writes at once, so that a write copies no more than it changes. */
const CHUNK_BYTES = 4096;
const MIB = 1024 * 1024;
/** Header, and room for the last metadata area. */
const COW_SLACK_BYTES = 16 * MIB;

/** Marks of loop devices. */
export const BASE_MARK = "banger-base";
export const cowMark = (vm: string): string => `banger-cow-${vm}`;
export const isOurMark = (mark: string): boolean => /^banger-(?:base|cow-[0-9a-f]{12})$/.test(mark);

export const dmName = (vm: string): string => `${DM_PREFIX}${vm}`;
/** The image's loop, lengthened by zeros to what the guest is to see. */
const baseName = (vm: string): string => `${DM_PREFIX}${vm}-base`;
export const dmDevice = (vm: string): string => `/dev/mapper/${dmName(vm)}`;
const cowName = (vm: string): string => `${vm}.cow`;
const cowPath = ({ paths }: HelperContext, vm: string): string => `${paths.cowDir}/${cowName(vm)}`;

/** Size of a COW file that holds every chunk of the disk changed: the data, 16 bytes of metadata per chunk, the header. */
export function cowBytesFor(rootBytes: number): number {
  return rootBytes + Math.ceil(rootBytes / CHUNK_BYTES) * 16 + COW_SLACK_BYTES;
}

/** The disk size that a COW file of that size was made for: the inverse of {@link cowBytesFor}, in whole MiB. */
export function rootBytesFor(cowBytes: number): number {
  const whole = Math.floor(((cowBytes - COW_SLACK_BYTES) * CHUNK_BYTES) / (CHUNK_BYTES + 16) / MIB) * MIB;
  return Math.max(0, whole);
}

export interface DmFacts {
  readonly major: number;
  readonly minor: number;
  /** How many have the device open. */
  readonly users: number;
}

/** False where the kernel has no device mapper loaded, and so no device of it. */
const isLoaded = (): boolean => readFileSync("/proc/devices", "utf8").includes(" device-mapper\n");

/** Every dm device of this product, by name. */
async function readAll(): Promise<ReadonlyMap<string, DmFacts>> {
  if (!isLoaded()) return new Map();
  const words = ["info", "-c", "--noheadings", "--separator", ":", "-o", "name,major,minor,open"];
  const text = await runTool("dmsetup", words, { timeoutMs: TIMEOUT_MS });
  return new Map(
    [...text.matchAll(/^\s*([^:\s]+):(\d+):(\d+):(\d+)$/gm)]
      .map(
        ([, name = "", major, minor, users]) =>
          [name, { major: Number(major), minor: Number(minor), users: Number(users) }] as const,
      )
      .filter(([name]) => name.startsWith(DM_PREFIX)),
  );
}

/** Null when there is no such device. */
export async function readDm(name: string): Promise<DmFacts | null> {
  return (await readAll()).get(name) ?? null;
}

/** Names of this product's dm devices. */
export async function listDm(): Promise<readonly string[]> {
  return [...(await readAll()).keys()];
}

export interface Snapshot {
  readonly baseLoop: string;
  readonly cowLoop: string;
  readonly bytes: number;
  readonly kept: boolean;
}

/** @throws BangerError IMAGE_NOT_FOUND, IN_USE when a VMM has the device open, HELPER_REFUSED, FAILED. */
export async function createSnapshot(
  context: HelperContext,
  vm: string,
  image: string,
  rootBytes: number,
): Promise<Snapshot> {
  using imageFile = openOwnersFile(context, `images/${image}/rootfs.ext4`, "IMAGE_NOT_FOUND", { onlyName: true });
  const imageBytes = imageFile.stat().bytes;
  if (imageBytes === 0 || imageBytes % SECTOR_BYTES !== 0) {
    throw new BangerError("FAILED", `the image ${image} is not a whole number of sectors`);
  }
  await removeDevices(context, vm);
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
      const table = [`0 ${imageSectors} linear ${base.label} 0`, `${imageSectors} ${sectors - imageSectors} zero`];
      await runTool("dmsetup", ["create", baseName(vm), "--readonly"], {
        timeoutMs: TIMEOUT_MS,
        stdin: `${table.join("\n")}\n`,
      });
      origin = `/dev/mapper/${baseName(vm)}`;
    }
    const options = `P ${CHUNK_BYTES / SECTOR_BYTES} 1 discard_zeroes_cow`;
    const table = `0 ${sectors} snapshot ${origin} ${cowLoop.label} ${options}`;
    await runTool("dmsetup", ["create", dmName(vm), "--table", table], { timeoutMs: TIMEOUT_MS });
  } catch (thrown) {
    await removeDevices(context, vm);
    throw thrown;
  }
  return { baseLoop: base.label, cowLoop: cowLoop.label, bytes, kept: before > 0 };
}

/** Removes the VM's devices, the nodes of them first; their loops end with them. @throws BangerError IN_USE while the VM runs. */
export async function removeDevices(context: HelperContext, vm: string): Promise<void> {
  dropNodes(context, vm);
  const devices = await readAll();
  const names = [dmName(vm), baseName(vm)].filter((name) => devices.has(name));
  // The base is open for as long as the snapshot is there.
  const users = devices.get(dmName(vm))?.users ?? 0;
  if (users > 0) throw new BangerError("IN_USE", `${dmName(vm)} is open`);
  // udev may look at a device for an instant; that is what --retry is for.
  for (const name of names) await runTool("dmsetup", ["remove", "--retry", name], { timeoutMs: TIMEOUT_MS });
}

/** Removes the COW file: what the guest wrote to its root disk is gone. "Not there" is fine. */
export function discardCow(context: HelperContext, vm: string): void {
  using directory = openCowFiles(context);
  try {
    unlinkSync(`${directory.procPath}/${cowName(vm)}`);
  } catch (thrown) {
    if (!isErrno(thrown, "ENOENT")) throw thrown;
  }
}

/** Detaches loops of the VM's COW file that no dm device holds any more: a tool's doing, autoclear leaves none. */
export function detachStrayLoops(vm: string): void {
  for (const { device, facts } of listLoops()) {
    if (facts.mark !== cowMark(vm)) continue;
    using loop = openLoop(device, false);
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

/** The COW file, made empty (which dm takes as a new, blank snapshot) when there is none. */
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

/** The read-only loop of an image: one that holds this very file, else a new one. Told by device and inode, not by name. */
function shareLoop(image: Descriptor): Descriptor {
  const { identity } = image.stat();
  for (const { device } of listLoops()) {
    const loop = openLoop(device, true);
    // Open from here on, so it can't be cleared and taken for another file between the look and the use.
    const facts = readLoop(loop);
    if (facts?.mark === BASE_MARK && facts.readOnly && facts.identity === identity) return loop;
    loop[Symbol.dispose]();
  }
  using readable = reopen(image, constants.O_RDONLY);
  return attachLoop(readable, true, BASE_MARK);
}
