/**
 * `handles.json`, the record kept beside each VM's disks: enough to know the VM again when the database is lost.
 * Written whole, flushed, renamed.
 */

import { open, readFile, rename } from "node:fs/promises";
import { join } from "node:path";
import * as v from "valibot";
import { VmRecord } from "../../shared/contract/schemas.ts";
import { formatRecord } from "./record.ts";

const Handles = v.strictObject({ version: v.literal(1), vm: VmRecord });

/** @throws BangerError INTERNAL when the record breaks its schema */
export async function writeHandles(vmStateDir: string, vm: VmRecord): Promise<void> {
  const text = `{"version":1,"vm":${formatRecord(vm)}}`;
  const path = join(vmStateDir, "handles.json");
  const staging = `${path}.new`;
  const file = await open(staging, "w", 0o600);
  try {
    await file.writeFile(text);
    await file.sync();
  } finally {
    await file.close();
  }
  await rename(staging, path);
}

/** The record as last written; null when the file is missing or not whole. */
export async function readHandles(vmStateDir: string): Promise<VmRecord | null> {
  const text = await readFile(join(vmStateDir, "handles.json"), "utf8").catch(() => null);
  if (text === null) return null;
  try {
    const parsed = v.safeParse(Handles, JSON.parse(text));
    return parsed.success ? parsed.output.vm : null;
  } catch {
    return null;
  }
}
