import { describe, expect, test } from "bun:test";
import * as v from "valibot";
import { readSpec, type SpecValues } from "../../../../src/cmd/line/args.ts";
import { type ConfigKey, loadConfig } from "../../../../src/shared/config.ts";
import {
  describeLimits,
  isWithinLimits,
  type LimitedField,
  SPEC_LIMITS,
} from "../../../../src/shared/contract/limits.ts";
import { VmSpec } from "../../../../src/shared/contract/schemas.ts";

const MIB = 1024 ** 2;
const FIELDS = Object.keys(SPEC_LIMITS) as LimitedField[];

/** How a value of a field is written on the command line and in config.toml. */
const WAYS: Readonly<
  Record<LimitedField, { readonly flag: keyof SpecValues; readonly key: ConfigKey; write(value: number): string }>
> = {
  vcpu: { flag: "vcpu", key: "vm_defaults.vcpu", write: String },
  memoryMiB: { flag: "memory", key: "vm_defaults.memory_mib", write: String },
  diskBytes: { flag: "disk-size", key: "vm_defaults.disk_size", write: (bytes) => String(bytes / MIB) },
  systemOverlayBytes: {
    flag: "system-overlay-size",
    key: "vm_defaults.system_overlay_size",
    write: (bytes) => String(bytes / MIB),
  },
};

const passes = (work: () => unknown): boolean => {
  try {
    work();
    return true;
  } catch {
    return false;
  }
};

describe.each(FIELDS)("%s", (field) => {
  const { least, most } = SPEC_LIMITS[field];
  const step = field === "diskBytes" || field === "systemOverlayBytes" ? MIB : 1;
  test.each([
    [least - step, false],
    [least, true],
    [most, true],
    [most + step, false],
  ] as const)("%p is allowed everywhere or nowhere: %p", (value, allowed) => {
    const { flag, key, write } = WAYS[field];
    const toml = `[vm_defaults]\n${key.slice("vm_defaults.".length)} = ${write(value)}\n`;
    expect({
      limits: isWithinLimits(field, value),
      schema: v.safeParse(VmSpec.entries[field], value).success,
      config: passes(() => loadConfig(["/c"], () => toml)),
      line: passes(() => readSpec({ [flag]: write(value) })),
    }).toEqual({ limits: allowed, schema: allowed, config: allowed, line: allowed });
  });
});

test.each([
  ['disk_size = "1M"', 'vm_defaults.disk_size must be a size from 64 MiB to 64 TiB, such as "8G"'],
  ['system_overlay_size = "200M"', "vm_defaults.system_overlay_size must be a size from 256 MiB to 64 TiB"],
  ["memory_mib = 2097152", "vm_defaults.memory_mib must be a whole number of MiB from 128 to 1048576"],
  ["vcpu = 65", "vm_defaults.vcpu must be a whole number from 1 to 64"],
])("the configuration refuses %s with its limits", (line, message) => {
  expect(() => loadConfig(["/c"], () => `[vm_defaults]\n${line}\n`)).toThrow(message);
});

test("the limits in words", () => {
  expect(FIELDS.map(describeLimits)).toEqual([
    "from 1 to 64",
    "from 128 MiB to 1 TiB",
    "from 64 MiB to 64 TiB",
    "from 256 MiB to 64 TiB",
  ]);
});
