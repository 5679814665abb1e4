/** What is on this host because of banger, and no VM owns. */

import { readdir, rm } from "node:fs/promises";
import { join } from "node:path";
import type { Paths } from "../../shared/places/paths.ts";
import type { ImageStore } from "../image/store.ts";
import type { VmTable } from "../store/vms.ts";
import type { Found, HostEngine } from "../engine/engine.ts";

/** VM directories without a row, what the engine finds without a row, staging directories without a build. */
export async function findLeftovers(parts: {
  readonly paths: Paths;
  readonly vms: VmTable;
  readonly images: ImageStore;
  readonly engine: HostEngine;
}): Promise<readonly Found[]> {
  const { paths, vms, images, engine } = parts;
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
  found.push(...(await engine.findLeftovers(known)));
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
