/** What is on this host because of banger, and no VM owns. */

import { readdir, rm } from "node:fs/promises";
import { join } from "node:path";
import type { Paths } from "../../shared/paths.ts";
import type { Leftover } from "../../shared/schemas.ts";
import type { ImageStore } from "../image/store.ts";
import type { VmTable } from "../store/vms.ts";
import { findProcesses, killProcess } from "../vmm/processes.ts";
import { QEMU } from "../vmm/qemu.ts";

export interface Found {
  readonly leftover: Leftover;
  readonly remove: () => Promise<void>;
}

/** VM directories without a row, VMMs of this state directory without a row, staging directories without a build. */
export async function findLeftovers(parts: {
  readonly paths: Paths;
  readonly vms: VmTable;
  readonly images: ImageStore;
}): Promise<readonly Found[]> {
  const { paths, vms, images } = parts;
  const known = new Set<string>(vms.list().map(({ id }) => id));
  const found: Found[] = [];
  for (const top of [paths.vmsDir, join(paths.runtimeDir, "vms")]) {
    for (const name of await readdir(top).catch(() => [])) {
      if (known.has(name)) continue;
      const what = join(top, name);
      found.push({
        leftover: { kind: "directory", what },
        remove: async () => await rm(what, { recursive: true, force: true }),
      });
    }
  }
  // Another state directory's VMs may run on this host too: ours name our disks.
  const prefix = `${paths.vmsDir}/`.replaceAll(",", ",,");
  const isStray = (argv: readonly string[]): boolean => {
    const id = /^banger-([0-9a-f]{12})$/.exec(argv[2] ?? "")?.[1];
    return (
      (argv[0] ?? "").endsWith(QEMU) &&
      id !== undefined &&
      !known.has(id) &&
      argv.some((word) => word.includes(`file=${prefix}${id}/`))
    );
  };
  for (const identity of await findProcesses(isStray)) {
    found.push({
      leftover: { kind: "process", what: `${QEMU} (process ${identity.pid})` },
      remove: async () => await killProcess(identity),
    });
  }
  for (const leftover of await images.findLeftovers()) {
    found.push({ leftover, remove: async () => await rm(leftover.what, { recursive: true, force: true }) });
  }
  return found;
}

/** Processes first, then what they may have had open. */
export async function removeLeftovers(found: readonly Found[]): Promise<void> {
  const order = found.toSorted((a, b) => Number(b.leftover.kind === "process") - Number(a.leftover.kind === "process"));
  for (const { remove } of order) await remove();
}
