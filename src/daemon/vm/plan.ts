/** What a new VM gets when nobody says: flag, then configuration, then this host, then the floor. Pure. */

import type { Config } from "../../shared/config.ts";
import type { VmSpec } from "../../shared/schemas.ts";

const GIB = 1024 ** 3;
const FLOOR = { vcpu: 2, memoryMiB: 1024, diskBytes: 8 * GIB } as const;
const MOST = { vcpu: 4, memoryMiB: 8192 } as const;

export interface HostSize {
  readonly cpus: number;
  readonly memoryMiB: number;
}

/** A quarter of the CPUs (at most 4), an eighth of the memory (at most 8 GiB), never below the floor. */
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
