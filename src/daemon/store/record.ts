/** A VM's record as text: checked when it is written, and shown as far as it can be read when it is damaged. */

import * as v from "valibot";
import { BangerError } from "../../shared/errors.ts";
import { SPEC_LIMITS } from "../../shared/contract/limits.ts";
import { VmName, VmRecord, VmSpec } from "../../shared/contract/schemas.ts";

/** The record's JSON. @throws BangerError INTERNAL naming the field that breaks the schema */
export function formatRecord(record: VmRecord): string {
  const parsed = v.safeParse(VmRecord, record);
  if (parsed.success) return JSON.stringify(parsed.output);
  throw new BangerError("INTERNAL", `the record of ${record.name} can't be stored: ${describeIssue(parsed.issues[0])}`);
}

export type ReadRecord =
  | { readonly record: VmRecord; readonly flaw: null }
  /** What could be read of a damaged record, in state `error`; its reason names the flaw and the way out. */
  | { readonly record: VmRecord; readonly flaw: string };

/** Reads a row. Never throws: one damaged record must not hide the others. */
export function readRecord(row: {
  readonly id: VmRecord["id"];
  readonly name: string;
  readonly record: string;
}): ReadRecord {
  const raw = parseJson(row.record);
  const parsed = v.safeParse(VmRecord, raw);
  if (parsed.success && parsed.output.id === row.id && parsed.output.name === row.name)
    return { record: parsed.output, flaw: null };
  const flaw = parsed.success ? `it says ${parsed.output.name} (${parsed.output.id})` : describeIssue(parsed.issues[0]);
  return { record: salvage(row, raw, flaw), flaw };
}

function describeIssue(issue: v.BaseIssue<unknown>): string {
  const where = v.getDotPath(issue);
  return `${where === null ? "" : `${where}: `}${issue.message}`;
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}

/** Every field of the record that its schema takes; the others as a VM has them that never ran. */
function salvage(
  { id, name }: { readonly id: VmRecord["id"]; readonly name: string },
  raw: unknown,
  flaw: string,
): VmRecord {
  const fields = isObject(raw) ? raw : {};
  const spec = isObject(fields["spec"]) ? fields["spec"] : {};
  const take = <S extends v.GenericSchema>(
    schema: S,
    value: unknown,
    otherwise: v.InferOutput<S>,
  ): v.InferOutput<S> => {
    const parsed = v.safeParse(schema, value);
    return parsed.success ? parsed.output : otherwise;
  };
  const { entries } = VmRecord;
  const shownName = take(VmName, name, `vm-${id}`);
  const never = new Date(0).toISOString();
  return {
    id,
    name: shownName,
    state: "error",
    reason: `its record is damaged (${flaw}); "banger vm delete ${shownName}" removes the VM`,
    image: take(entries.image, fields["image"], "unknown"),
    kernel: take(entries.kernel, fields["kernel"], ""),
    spec: {
      vcpu: take(VmSpec.entries.vcpu, spec["vcpu"], SPEC_LIMITS.vcpu.least),
      memoryMiB: take(VmSpec.entries.memoryMiB, spec["memoryMiB"], SPEC_LIMITS.memoryMiB.least),
      diskBytes: take(VmSpec.entries.diskBytes, spec["diskBytes"], SPEC_LIMITS.diskBytes.least),
      systemOverlayBytes: take(
        VmSpec.entries.systemOverlayBytes,
        spec["systemOverlayBytes"],
        SPEC_LIMITS.systemOverlayBytes.least,
      ),
      nat: take(VmSpec.entries.nat, spec["nat"], false),
    },
    engine: take(entries.engine, fields["engine"], "qemu"),
    acceleration: null,
    pid: null,
    bootId: null,
    agent: null,
    address: null,
    // Kept: its tap and rules are found by it, and nobody else may get it.
    guestIp: take(entries.guestIp, fields["guestIp"], null),
    workspace: take(entries.workspace, fields["workspace"], null),
    createdAt: take(entries.createdAt, fields["createdAt"], never),
    startedAt: null,
    touchedAt: take(entries.touchedAt, fields["touchedAt"], never),
  };
}

function isObject(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
