/** Device-mapper devices by ioctl. `dmsetup` would wait for udev, which isn't needed here. Source: linux/dm-ioctl.h. */

import { readdirSync, readFileSync } from "node:fs";
import { isErrno } from "../../shared/errors.ts";
import { openDevice } from "./descriptors.ts";
import { addressOf, check, errno, libc, SystemCallError } from "./libc.ts";

const IOCTLS = {
  DM_DEV_CREATE: 0xc138fd03,
  DM_DEV_REMOVE: 0xc138fd04,
  DM_DEV_SUSPEND: 0xc138fd06,
  DM_DEV_STATUS: 0xc138fd07,
  DM_TABLE_LOAD: 0xc138fd09,
} as const;
const VERSION_MAJOR = 4;
const DM_READONLY_FLAG = 1;
// struct dm_ioctl (312 bytes): u32 version[3], data_size, data_start, target_count, s32 open_count, u32 flags,
// event_nr, padding, u64 dev, name[128], uuid[129], data[7].
const HEADER_BYTES = 312;
const SIZE_AT = 12;
const START_AT = 16;
const TARGETS_AT = 20;
const OPEN_COUNT_AT = 24;
const FLAGS_AT = 28;
const DEVICE_AT = 40;
const NAME_AT = 48;
const NAME_BYTES = 128;
const UUID_AT = 176;
const UUID_BYTES = 129;
// struct dm_target_spec (40 bytes): u64 sector_start, length, s32 status, u32 next, target_type[16]; then its
// parameters.
const TARGET_BYTES = 40;
const NEXT_AT = 20;
const TYPE_AT = 24;

/** A part of a device, in sectors. */
export interface DmTarget {
  readonly start: number;
  readonly length: number;
  readonly type: "linear" | "zero" | "snapshot";
  readonly parameters: string;
}

export interface DmFacts {
  /** Its mark, set when it was made; empty for none. Only root can make and mark devices. */
  readonly uuid: string;
  readonly major: number;
  readonly minor: number;
  /** How many times the device is open. */
  readonly users: number;
}

/** Encodes a table for DM_TABLE_LOAD: each target and its parameters, padded to a multiple of eight. Pure. */
export function encodeTargets(targets: readonly DmTarget[]): Uint8Array {
  return Buffer.concat(
    targets.map(({ start, length, type, parameters }) => {
      const text = new TextEncoder().encode(`${parameters}\0`);
      const bytes = new Uint8Array(TARGET_BYTES + Math.ceil(text.length / 8) * 8);
      const view = new DataView(bytes.buffer);
      view.setBigUint64(0, BigInt(start), true);
      view.setBigUint64(8, BigInt(length), true);
      view.setUint32(NEXT_AT, bytes.length, true);
      bytes.set(new TextEncoder().encode(type), TYPE_AT);
      bytes.set(text, TARGET_BYTES);
      return bytes;
    }),
  );
}

/** Decodes a device number: minor bits 0-7, major bits 8-19, the remaining minor bits above. Pure. */
export function splitDevice(device: bigint): { readonly major: number; readonly minor: number } {
  return {
    major: Number((device >> 8n) & 0xfffn),
    minor: Number((device & 0xffn) | ((device >> 12n) & 0xfff00n)),
  };
}

/** Identifies a device. The kernel takes its name or its uuid, and both when it is created. */
interface DmName {
  readonly name?: string;
  readonly uuid?: string;
}

interface DmRequest {
  readonly targets?: readonly DmTarget[];
  readonly flags?: number;
}

function encodeText(text: string, limitBytes: number): Uint8Array {
  const bytes = new TextEncoder().encode(text);
  if (bytes.length >= limitBytes) throw new Error(`a device's name is shorter than ${limitBytes} bytes: ${text}`);
  return bytes;
}

const readText = (bytes: Uint8Array): string => new TextDecoder().decode(bytes).replace(/\0.*$/s, "");

/** @throws SystemCallError */
function act(call: keyof typeof IOCTLS, { name = "", uuid = "" }: DmName, options: DmRequest = {}): DmFacts {
  const { targets = [], flags = 0 } = options;
  const table = encodeTargets(targets);
  const request = new Uint8Array(HEADER_BYTES + table.length);
  const view = new DataView(request.buffer);
  view.setUint32(0, VERSION_MAJOR, true);
  view.setUint32(SIZE_AT, request.length, true);
  view.setUint32(START_AT, HEADER_BYTES, true);
  view.setUint32(TARGETS_AT, targets.length, true);
  view.setUint32(FLAGS_AT, flags, true);
  request.set(encodeText(name, NAME_BYTES), NAME_AT);
  request.set(encodeText(uuid, UUID_BYTES), UUID_AT);
  request.set(table, HEADER_BYTES);
  using control = openDevice("/dev/mapper/control", false);
  check("ioctl", `${call}, ${name}${uuid}`, libc.ioctl(control.fd, BigInt(IOCTLS[call]), addressOf(request)), errno());
  return {
    ...splitDevice(view.getBigUint64(DEVICE_AT, true)),
    uuid: readText(request.subarray(UUID_AT, UUID_AT + UUID_BYTES)),
    users: view.getInt32(OPEN_COUNT_AT, true),
  };
}

/**
 * Makes a device of these targets. If that fails, no device remains.
 * @throws SystemCallError EBUSY if the name is taken; for a bad table, whatever its target reports (see the kernel's
 * log)
 */
export function createDm(name: string, uuid: string, targets: readonly DmTarget[], access: "read" | "write"): DmFacts {
  const flags = access === "read" ? DM_READONLY_FLAG : 0;
  act("DM_DEV_CREATE", { name, uuid }, { flags });
  try {
    act("DM_TABLE_LOAD", { name }, { targets, flags });
    // Without the suspend flag, this call resumes the device.
    return act("DM_DEV_SUSPEND", { name });
  } catch (thrown) {
    act("DM_DEV_REMOVE", { uuid });
    throw thrown;
  }
}

/** False if the kernel has no device mapper loaded, and so no dm device. */
const isLoaded = (): boolean => readFileSync("/proc/devices", "utf8").includes(" device-mapper\n");

/** Removes a device. A missing one is not an error. @throws SystemCallError EBUSY while it is open */
export function removeDm(device: DmName): void {
  if (!isLoaded()) return;
  try {
    act("DM_DEV_REMOVE", device);
  } catch (thrown) {
    if (!(thrown instanceof SystemCallError) || thrown.code !== "ENXIO") throw thrown;
  }
}

/** Reads a device's facts; null if it doesn't exist. */
export function readDm(name: string): DmFacts | null {
  if (!isLoaded()) return null;
  try {
    return act("DM_DEV_STATUS", { name });
  } catch (thrown) {
    if (thrown instanceof SystemCallError && thrown.code === "ENXIO") return null;
    throw thrown;
  }
}

/** Reads its size. The kernel counts every block device in sectors of 512 bytes. */
export function readDmBytes({ minor }: DmFacts): number {
  return Number(readFileSync(`/sys/block/dm-${minor}/size`, "utf8")) * 512;
}

/** Lists the kernel's names (`loop3`, `dm-1`) of the devices directly below it. */
export function listDmParts(device: string): readonly string[] {
  return readdirSync(`/sys/block/${device}/slaves`);
}

/** Lists all dm devices of this host. `device` is the kernel's name, such as `dm-1`. */
export function listDmDevices(): readonly { readonly device: string; readonly name: string; readonly uuid: string }[] {
  return readdirSync("/sys/block").flatMap((device) => {
    if (!/^dm-\d+$/.test(device)) return [];
    const read = (what: string): string => readFileSync(`/sys/block/${device}/dm/${what}`, "utf8").trim();
    try {
      return [{ device, name: read("name"), uuid: read("uuid") }];
    } catch (thrown) {
      if (isErrno(thrown, "ENOENT") || isErrno(thrown, "ENODEV")) return [];
      throw thrown;
    }
  });
}
