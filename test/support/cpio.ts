/** Reads what src/daemon/kernel/write-cpio.ts writes. */

import type { CpioEntry } from "../../src/daemon/kernel/write-cpio.ts";

const HEADER_BYTES = 110;
const align = (at: number): number => (at + 3) & ~3;

/** The files and directories of an archive in the "newc" form, without device nodes; what follows the archive is left out. */
export function readCpio(archive: Buffer): readonly CpioEntry[] {
  const entries: CpioEntry[] = [];
  for (let at = 0; ;) {
    const field = (index: number): number =>
      parseInt(archive.toString("latin1", at + 6 + index * 8, at + 14 + index * 8), 16);
    if (archive.toString("latin1", at, at + 6) !== "070701") throw new Error(`not a cpio header at ${at}`);
    const [mode, size, nameBytes] = [field(1), field(6), field(11)];
    const path = archive.toString("utf8", at + HEADER_BYTES, at + HEADER_BYTES + nameBytes - 1);
    const start = align(at + HEADER_BYTES + nameBytes);
    if (path === "TRAILER!!!") return entries;
    const type = mode & 0o170000;
    if (type === 0o100000) entries.push({ path, mode, contents: archive.subarray(start, start + size) });
    if (type === 0o40000) entries.push({ path, mode });
    at = align(start + size);
  }
}
