/**
 * The guest agent in a kernel's initrd. Linux unpacks several archives one after another, so the agent is a small one behind whatever
 * the kernel came with: a new banger brings its own agent to every VM's next start, and the base stays as it was.
 * Source: Documentation/driver-api/early-userspace/buffer-format.rst.
 */

import { constants } from "node:fs";
import { copyFile, link, open, rename, stat, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { isErrno } from "../../shared/errors.ts";
import { writeCpio } from "./write-cpio.ts";

/** What a kernel boots with: the base and the agent's archive. */
export const INITRD = "initrd.img";
/** What it came with; empty for a kernel that came without. There from the first start on. */
const BASE = "initrd.base.img";

const AGENT = "banger-agent";
/** The kernel's argument that makes the agent the first process. Without that file in its initrd a kernel ignores it. */
export const AGENT_BOOT_ARG = `rdinit=/${AGENT}`;
const EXECUTABLE = 0o100755;

/** What stands behind a base of so many bytes: an uncompressed archive begins at a multiple of 4. Pure. */
export function agentTail(agent: Uint8Array, baseBytes: number): Uint8Array {
  return Buffer.concat([Buffer.alloc(-baseBytes & 3), writeCpio([{ path: AGENT, mode: EXECUTABLE, contents: agent }])]);
}

/** More than the names in the root of an initrd of banger's take. */
const ROOT_NAMES_BYTES = 4096;
const HEADER_BYTES = 110;
/** The magic, and 13 fields of eight digits. */
const HEADER = /^070701[0-9A-Fa-f]{104}$/;

/**
 * Whether the agent of an initrd with this base boots the guest, as it decides itself (src/guest/boot/init.c): another's initrd, without
 * /modules, knows its own way. `start` is the base's first bytes. Pure.
 */
function isBootedByAgent(start: Buffer): boolean {
  for (let at = 0; at + HEADER_BYTES < start.length;) {
    const header = start.toString("latin1", at, at + HEADER_BYTES);
    if (!HEADER.test(header)) return false;
    const field = (index: number): number => parseInt(header.slice(6 + index * 8, 14 + index * 8), 16);
    const [size, nameBytes] = [field(6), field(11)];
    const name = start.toString("latin1", at + HEADER_BYTES, at + HEADER_BYTES + nameBytes - 1);
    if (name === "modules") return true;
    at += padded(HEADER_BYTES + nameBytes) + padded(size);
  }
  return start.length === 0;
}

/** No bit operators: a field may have 32 bits, and the sum must not become negative. */
const padded = (bytes: number): number => Math.ceil(bytes / 4) * 4;

/**
 * Makes the initrd in a kernel's directory carry this agent; writes only when it doesn't. A guest that boots meanwhile sees the old file
 * or the new one, whole. `withStaging` lends a private directory on the same file system.
 *
 * An image's rebuild may put another kernel's directory in place at any moment. So it is opened once, and what is written belongs to the
 * base that was read. ENOENT when the directory was removed.
 *
 * Returns whether that agent boots the guest.
 */
export async function ensureAgent(
  directory: string,
  agent: Uint8Array,
  withStaging: (work: (staging: string) => Promise<void>) => Promise<void>,
): Promise<boolean> {
  await using opened = await open(directory, constants.O_RDONLY | constants.O_DIRECTORY);
  const inside = (name: string): string => `/proc/self/fd/${opened.fd}/${name}`;
  await ensureBase(inside);
  const { size } = await stat(inside(BASE));
  const tail = agentTail(agent, size);
  const isBooted = isBootedByAgent(await readStart(inside(BASE)));
  if (await endsWith(inside(INITRD), size, tail)) return isBooted;
  await withStaging(async (staging) => {
    const whole = join(staging, INITRD);
    await copyFile(inside(BASE), whole, constants.COPYFILE_FICLONE);
    await using file = await open(whole, "a");
    await file.writeFile(tail);
    await file.sync();
    await rename(whole, inside(INITRD));
  });
  return isBooted;
}

async function readStart(path: string): Promise<Buffer> {
  await using file = await open(path, "r");
  const { buffer, bytesRead } = await file.read(Buffer.alloc(ROOT_NAMES_BYTES), 0, ROOT_NAMES_BYTES, 0);
  return buffer.subarray(0, bytesRead);
}

/** Keeps what the kernel came with under its own name. Of two at once, one makes it. */
async function ensureBase(inside: (name: string) => string): Promise<void> {
  try {
    await stat(inside(BASE));
    return;
  } catch (thrown) {
    if (!isErrno(thrown, "ENOENT")) throw thrown;
  }
  try {
    await link(inside(INITRD), inside(BASE));
  } catch (thrown) {
    if (isErrno(thrown, "EEXIST")) return;
    if (!isErrno(thrown, "ENOENT")) throw thrown;
    await writeFile(inside(BASE), "", { mode: 0o600, flag: "wx" }).catch((cause: unknown) => {
      if (!isErrno(cause, "EEXIST")) throw cause;
    });
  }
}

/** Whether a file is `at` bytes and then exactly these. */
async function endsWith(path: string, at: number, bytes: Uint8Array): Promise<boolean> {
  try {
    await using file = await open(path, "r");
    if ((await file.stat()).size !== at + bytes.length) return false;
    const found = Buffer.alloc(bytes.length);
    const { bytesRead } = await file.read(found, 0, found.length, at);
    return bytesRead === bytes.length && found.equals(bytes);
  } catch (thrown) {
    if (isErrno(thrown, "ENOENT")) return false;
    throw thrown;
  }
}
