/**
 * Loop devices, attached to an open file instead of a name. `losetup` resolves the name again, and an owner could put
 * another file there in between. Source: loop(4), linux/loop.h.
 */

import { existsSync, readdirSync } from "node:fs";
import { addressOf, check, errno, libc, SystemCallError } from "./libc.ts";
import { type Descriptor, openDevice } from "./descriptors.ts";

const LOOP_CTL_GET_FREE = 0x4c82;
const LOOP_CONFIGURE = 0x4c0a;
const LOOP_CLR_FD = 0x4c01;
const LOOP_GET_STATUS64 = 0x4c05;
const LO_FLAGS_READ_ONLY = 1;
/** The kernel detaches the file when the device's last user is gone, so a crash leaves nothing behind. */
const LO_FLAGS_AUTOCLEAR = 4;

// struct loop_info64 (232 bytes): device, inode, rdevice, offset, sizelimit (u64 each), number, encrypt_type,
// encrypt_key_size, flags (u32 each), file_name[64], crypt_name[64], encrypt_key[32], init[2].
const INFO_BYTES = 232;
const INFO_FLAGS_AT = 52;
const INFO_NAME_AT = 56;
const NAME_BYTES = 64;
// struct loop_config: u32 fd, u32 block_size, loop_info64 info, u64 reserved[8].
const CONFIG_BYTES = 8 + INFO_BYTES + 64;
/** Losing a race for a free device is normal while others attach loops as well. */
const ATTEMPTS = 50;

export interface LoopFacts {
  /** `device:inode` of the backing file. */
  readonly identity: string;
  readonly readOnly: boolean;
  /**
   * The mark set when it was attached. The backing file's path can't serve: the kernel prints it as seen from the mount
   * namespace of the helper that opened it, which may have ended. Only root can attach and mark loops.
   */
  readonly mark: string;
}

/** Attaches an open file. The device exists as long as the result, or another user of it, is open. */
export function attachLoop(file: Descriptor, readOnly: boolean, mark: string): Descriptor {
  using control = openDevice("/dev/loop-control", false);
  for (let attempt = 1; ; attempt++) {
    const number = check("ioctl", "LOOP_CTL_GET_FREE", libc.ioctl(control.fd, BigInt(LOOP_CTL_GET_FREE), 0), errno());
    const loop = openDevice(`/dev/loop${number}`, readOnly);
    const config = new Uint8Array(CONFIG_BYTES);
    const view = new DataView(config.buffer);
    view.setUint32(0, file.fd, true);
    config.set(new TextEncoder().encode(mark).subarray(0, NAME_BYTES - 1), 8 + INFO_NAME_AT);
    view.setUint32(8 + INFO_FLAGS_AT, LO_FLAGS_AUTOCLEAR | (readOnly ? LO_FLAGS_READ_ONLY : 0), true);
    try {
      check(
        "ioctl",
        `LOOP_CONFIGURE, ${loop.label}, ${file.label}`,
        libc.ioctl(loop.fd, BigInt(LOOP_CONFIGURE), addressOf(config)),
        errno(),
      );
      return loop;
    } catch (thrown) {
      loop[Symbol.dispose]();
      if (!(thrown instanceof SystemCallError) || thrown.code !== "EBUSY" || attempt >= ATTEMPTS) throw thrown;
    }
  }
}

/** Reads a loop's facts; null if no file is attached. */
export function readLoop(loop: Descriptor): LoopFacts | null {
  const info = new Uint8Array(INFO_BYTES);
  try {
    check(
      "ioctl",
      `LOOP_GET_STATUS64, ${loop.label}`,
      libc.ioctl(loop.fd, BigInt(LOOP_GET_STATUS64), addressOf(info)),
      errno(),
    );
  } catch (thrown) {
    if (thrown instanceof SystemCallError && thrown.code === "ENXIO") return null;
    throw thrown;
  }
  const view = new DataView(info.buffer);
  return {
    identity: `${view.getBigUint64(0, true)}:${view.getBigUint64(8, true)}`,
    readOnly: (view.getUint32(INFO_FLAGS_AT, true) & LO_FLAGS_READ_ONLY) !== 0,
    mark: new TextDecoder().decode(info.subarray(INFO_NAME_AT, INFO_NAME_AT + NAME_BYTES)).replace(/\0.*$/s, ""),
  };
}

/** Detaches the backing file, now or when the last user is gone. A loop without a file is not an error. */
export function detachLoop(loop: Descriptor): void {
  try {
    check("ioctl", `LOOP_CLR_FD, ${loop.label}`, libc.ioctl(loop.fd, BigInt(LOOP_CLR_FD), 0), errno());
  } catch (thrown) {
    if (!(thrown instanceof SystemCallError) || thrown.code !== "ENXIO") throw thrown;
  }
}

/** Lists every loop device with a file attached: `/dev/loopN` and the kernel's facts about it. */
export function listLoops(): readonly { readonly device: string; readonly facts: LoopFacts }[] {
  return readdirSync("/sys/block")
    .filter((name) => /^loop\d+$/.test(name) && existsSync(`/sys/block/${name}/loop/backing_file`))
    .flatMap((name) => {
      const device = `/dev/${name}`;
      using loop = openDevice(device, true);
      const facts = readLoop(loop);
      return facts === null ? [] : [{ device, facts }];
    });
}
