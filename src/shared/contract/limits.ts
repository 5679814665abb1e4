/** What a VM's spec may hold. The schema, the configuration, the command line and the daemon all read it here. */

import { formatBytes } from "../text/sizes.ts";

const MIB = 1024 ** 2;
const TIB = 1024 ** 4;

/** By the spec's own fields: memory in MiB, disks in bytes. Both ends are allowed. */
export const SPEC_LIMITS = {
  vcpu: { least: 1, most: 64 },
  memoryMiB: { least: 128, most: TIB / MIB },
  diskBytes: { least: 64 * MIB, most: 64 * TIB },
  systemOverlayBytes: { least: 256 * MIB, most: 64 * TIB },
} as const satisfies Readonly<Record<string, { readonly least: number; readonly most: number }>>;

export type LimitedField = keyof typeof SPEC_LIMITS;

/** Bytes of one unit of a field; null for a plain count. */
const UNIT_BYTES: Readonly<Record<LimitedField, number | null>> = {
  vcpu: null,
  memoryMiB: MIB,
  diskBytes: 1,
  systemOverlayBytes: 1,
};

export function isWithinLimits(field: LimitedField, value: number): boolean {
  const { least, most } = SPEC_LIMITS[field];
  return Number.isSafeInteger(value) && value >= least && value <= most;
}

/** The limits of a field in words: `from 128 MiB to 1 TiB`. */
export function describeLimits(field: LimitedField): string {
  const { least, most } = SPEC_LIMITS[field];
  const unit = UNIT_BYTES[field];
  const show = (value: number): string => (unit === null ? String(value) : formatBytes(value * unit));
  return `from ${show(least)} to ${show(most)}`;
}
