/**
 * banger's own initrd: a static busybox, the drivers of a microVM, and an `/init` that loads them and mounts the
 * root disk. A distribution's initrd runs udev twice and takes seconds of an emulated guest's boot.
 * Not compressed: it is a few MiB, read from a file, and unpacking costs more than reading.
 */

import init from "../image/guest/initrd-init.sh" with { type: "text" };
import { writeCpio, type CpioEntry } from "./write-cpio.ts";

const DIRECTORY = 0o40755;
const EXECUTABLE = 0o100755;
const PLAIN = 0o100644;
const CHARACTER_DEVICE = 0o20600;

export interface InitrdParts {
  readonly busybox: Uint8Array;
  /** Uncompressed modules whose names sort in the order in which they must be loaded. */
  readonly modules: readonly { readonly name: string; readonly contents: Uint8Array }[];
}

export function makeInitrd(parts: InitrdParts): Uint8Array {
  const directory = (path: string): CpioEntry => ({ path, mode: DIRECTORY });
  return writeCpio([
    ...["bin", "dev", "modules", "new", "proc"].map(directory),
    // The kernel opens it before /init runs.
    { path: "dev/console", mode: CHARACTER_DEVICE, device: { major: 5, minor: 1 } },
    { path: "bin/busybox", mode: EXECUTABLE, contents: parts.busybox },
    { path: "init", mode: EXECUTABLE, contents: Buffer.from(init) },
    ...parts.modules.map(({ name, contents }) => ({ path: `modules/${name}`, mode: PLAIN, contents })),
  ]);
}
