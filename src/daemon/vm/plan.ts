/** What a new VM gets when nobody says: flag, then configuration, then this host, then the floor. */

import { cpus, totalmem } from "node:os";
import type { Config } from "../../shared/config.ts";
import { BangerError } from "../../shared/errors.ts";
import type { VmRecord, VmSpec } from "../../shared/contract/schemas.ts";

const GIB = 1024 ** 3;
const FLOOR = { vcpu: 2, memoryMiB: 1024, diskBytes: 8 * GIB } as const;
const MOST = { vcpu: 4, memoryMiB: 8192 } as const;

/** Firecracker's own limit (docs/api_requests, machine-config); QEMU's microvm takes more than any spec has. */
const MOST_VCPUS: Readonly<Record<VmRecord["engine"], number>> = { firecracker: 32, qemu: 64 };

export interface HostSize {
  readonly cpus: number;
  readonly memoryMiB: number;
}

export const thisHost = (): HostSize => ({ cpus: cpus().length, memoryMiB: totalmem() / 1024 ** 2 });

/** A quarter of the CPUs (at most 4), an eighth of the memory (at most 8 GiB), never below the floor. Pure. */
export function resolveSpec(asked: Partial<VmSpec>, config: Config, host: HostSize): VmSpec {
  const clamp = (value: number, floor: number, most: number): number =>
    Math.max(floor, Math.min(most, Math.floor(value)));
  return {
    vcpu: asked.vcpu ?? config["vm_defaults.vcpu"] ?? clamp(host.cpus / 4, FLOOR.vcpu, MOST.vcpu),
    memoryMiB:
      asked.memoryMiB ?? config["vm_defaults.memory_mib"] ?? clamp(host.memoryMiB / 8, FLOOR.memoryMiB, MOST.memoryMiB),
    diskBytes: asked.diskBytes ?? config["vm_defaults.disk_size"] ?? FLOOR.diskBytes,
    systemOverlayBytes: asked.systemOverlayBytes ?? config["vm_defaults.system_overlay_size"] ?? FLOOR.diskBytes,
    nat: asked.nat ?? config["vm_defaults.nat"],
  };
}

/** Why this host could never run such a VM; null when it could. The memory that a VM gets at least is fit for every host. Pure. */
export function whyUnfit(
  { name, engine, spec }: Pick<VmRecord, "name" | "engine" | "spec">,
  host: Pick<HostSize, "memoryMiB">,
): string | null {
  if (spec.memoryMiB > Math.max(host.memoryMiB, FLOOR.memoryMiB))
    return `${name} can't have ${spec.memoryMiB} MiB of memory: this host has ${Math.floor(host.memoryMiB)} MiB`;
  const most = MOST_VCPUS[engine];
  return spec.vcpu > most ? `${name} can't have ${spec.vcpu} vCPUs: ${engine} takes at most ${most}` : null;
}

/** @throws BangerError with that code when this host could never run the VM */
export function checkFits(
  vm: Pick<VmRecord, "name" | "engine" | "spec">,
  code: "INVALID_VALUE" | "HOST_UNSUPPORTED",
): void {
  const why = whyUnfit(vm, thisHost());
  if (why === null) return;
  throw new BangerError(code, why, code === "INVALID_VALUE" ? {} : { hint: `banger vm set ${vm.name} --help` });
}
