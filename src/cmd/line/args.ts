/** Arguments that several commands share, and the checks that name the flag. */

import type { ArgsDef } from "citty";
import { parseDuration } from "../../shared/text/durations.ts";
import { BangerError } from "../../shared/errors.ts";
import { type LimitedField, SPEC_LIMITS } from "../../shared/contract/limits.ts";
import { IMAGE_NAME_PATTERN, NAME_PATTERN } from "../../shared/contract/names.ts";
import { formatBytes, parseSize } from "../../shared/text/sizes.ts";

const MIB = 1024 ** 2;
const REF_LIMIT = 63;

/** The one VM a command is about. */
export const VM_ARG = {
  vm: { type: "positional", required: true, description: "Name, id, or a unique prefix of its id." },
} as const satisfies ArgsDef;

/** For a loop whose own input must stay: `while read x; do banger exec -n box -- …; done`. */
export const NO_STDIN_ARG = {
  "no-stdin": { type: "boolean", alias: "n", description: "Gives the command empty input, for use in a loop." },
} as const satisfies ArgsDef;

export const VMS = {
  name: "vm",
  description: "Names, ids, or unique prefixes of ids.",
  least: 1,
} as const;

/** Sizes of a VM. */
export const SPEC_ARGS = {
  vcpu: {
    type: "string",
    valueHint: "count",
    description: `Virtual CPUs, ${SPEC_LIMITS.vcpu.least} to ${SPEC_LIMITS.vcpu.most}.`,
  },
  memory: { type: "string", valueHint: "size", description: "Memory, such as 2G; a bare number is MiB." },
  "disk-size": { type: "string", valueHint: "size", description: "Size of the work disk at /root, such as 20G." },
  "system-overlay-size": { type: "string", valueHint: "size", description: "Size of the root file system." },
  nat: {
    type: "boolean",
    description:
      "Gives the VM network access through the host (NAT). Without root, also to services on the host's loopback.",
    negativeDescription: "No network access (the default for a new VM).",
  },
} as const satisfies ArgsDef;

/** What {@link SPEC_ARGS} look like when read. */
export interface SpecValues {
  readonly vcpu?: string | undefined;
  readonly memory?: string | undefined;
  readonly "disk-size"?: string | undefined;
  readonly "system-overlay-size"?: string | undefined;
  readonly nat?: boolean | undefined;
}

export interface PartialSpec {
  vcpu?: number;
  memoryMiB?: number;
  diskBytes?: number;
  systemOverlayBytes?: number;
  nat?: boolean;
}

function invalid(flag: string, value: string, rule: string): BangerError {
  return new BangerError("INVALID_VALUE", `${flag} must be ${rule}, not ${JSON.stringify(value)}`, {
    details: { flag, value },
  });
}

/** @throws BangerError INVALID_VALUE naming the flag */
export function readWhole(flag: string, value: string, least: number, most: number): number {
  const number = /^\d{1,9}$/.test(value) ? Number(value) : NaN;
  if (!(number >= least && number <= most)) throw invalid(flag, value, `a whole number from ${least} to ${most}`);
  return number;
}

/** Bytes within the limits of a field of the spec. @throws BangerError INVALID_VALUE naming the flag */
function readSize(flag: string, value: string, field: Exclude<LimitedField, "vcpu">, example: string): number {
  const bytes = parseSize(value);
  if (bytes === null) throw invalid(flag, value, `a size such as ${example}`);
  const { least, most } = SPEC_LIMITS[field];
  const unit = field === "memoryMiB" ? MIB : 1;
  if (bytes < least * unit) throw invalid(flag, value, `at least ${formatBytes(least * unit)}`);
  if (bytes > most * unit) throw invalid(flag, value, `at most ${formatBytes(most * unit)}`);
  return bytes;
}

/** The most that a timer takes (31 bits of milliseconds), in whole days. */
const LONGEST_DAYS = 24;

/** Milliseconds, more than none. @throws BangerError INVALID_VALUE naming the flag */
export function readDuration(flag: string, value: string): number {
  const ms = parseDuration(value);
  if (ms === null || ms === 0) throw invalid(flag, value, "a duration such as 30s or 2h30m");
  if (ms > LONGEST_DAYS * 86_400_000) throw invalid(flag, value, `at most ${LONGEST_DAYS}d`);
  return ms;
}

/** The sizes asked for; what wasn't is left to the daemon. @throws BangerError INVALID_VALUE naming the flag */
export function readSpec(args: SpecValues): PartialSpec {
  const spec: PartialSpec = {};
  if (args.vcpu !== undefined)
    spec.vcpu = readWhole("--vcpu", args.vcpu, SPEC_LIMITS.vcpu.least, SPEC_LIMITS.vcpu.most);
  if (args.memory !== undefined) {
    const bytes = readSize("--memory", args.memory, "memoryMiB", "2G");
    if (bytes % MIB !== 0) throw invalid("--memory", args.memory, "whole MiB");
    spec.memoryMiB = bytes / MIB;
  }
  const disk = args["disk-size"];
  if (disk !== undefined) spec.diskBytes = readSize("--disk-size", disk, "diskBytes", "20G");
  const overlay = args["system-overlay-size"];
  if (overlay !== undefined)
    spec.systemOverlayBytes = readSize("--system-overlay-size", overlay, "systemOverlayBytes", "20G");
  if (args.nat !== undefined) spec.nat = args.nat;
  return spec;
}

/** @throws BangerError INVALID_NAME naming the flag */
export function checkVmName(flag: string, name: string): string {
  if (NAME_PATTERN.test(name)) return name;
  throw new BangerError(
    "INVALID_NAME",
    `${flag} must be 1 to 63 of a-z, 0-9 and hyphen, with no hyphen at either end, not ${JSON.stringify(name)}`,
  );
}

/** For images and kernels. @throws BangerError INVALID_NAME naming the flag */
export function checkImageName(flag: string, name: string): string {
  if (IMAGE_NAME_PATTERN.test(name)) return name;
  throw new BangerError(
    "INVALID_NAME",
    `${flag} must be 1 to 64 of a-z, 0-9, dot, underscore and hyphen, not ${JSON.stringify(name)}`,
  );
}

/** A name, id or beginning of an id; anything that can be none of them is no VM. @throws BangerError VM_NOT_FOUND */
export function checkVmRef(ref: string): string {
  if (ref.length <= REF_LIMIT && NAME_PATTERN.test(ref)) return ref;
  throw new BangerError("VM_NOT_FOUND", `${JSON.stringify(ref)} is not a valid VM name or id`);
}

/** A TCP port. @throws BangerError INVALID_VALUE */
export function readPort(what: string, value: string): number {
  return readWhole(what, value, 1, 65535);
}
