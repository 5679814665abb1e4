/** Whether KVM really works here (lifecycle.md "Engines"), and if not, why. */

import { closeSync, constants, existsSync, openSync } from "node:fs";

export interface Acceleration {
  readonly kind: "kvm" | "tcg";
  /** One sentence: why it is this one. */
  readonly reason: string;
  /** What to do about it; null when KVM works. */
  readonly fix: string | null;
}

export interface KvmFacts {
  readonly device: "usable" | "missing" | "forbidden" | "broken";
  /** `kvm_intel`, `kvm_amd`, `kvm_pvm` … as far as loaded. */
  readonly modules: readonly string[];
}

/**
 * The decision, apart from the looking. A `kvm_pvm` host opens /dev/kvm and then hangs ordinary kernels, so
 * only hardware virtualization counts.
 */
export function decideAcceleration(facts: KvmFacts): Acceleration {
  const slow = "so guests run by emulation (TCG), several times slower";
  switch (facts.device) {
    case "missing":
      return {
        kind: "tcg",
        reason: `there is no /dev/kvm, ${slow}`,
        fix: "enable virtualization (VT-x or AMD-V) in the firmware, then: sudo modprobe kvm_intel || sudo modprobe kvm_amd",
      };
    case "forbidden":
      return {
        kind: "tcg",
        reason: `this user may not open /dev/kvm, ${slow}`,
        fix: 'sudo usermod -aG kvm "$USER", then log in again',
      };
    case "broken":
      return { kind: "tcg", reason: `/dev/kvm can't be opened, ${slow}`, fix: "dmesg | grep -i kvm" };
    case "usable": {
      const hardware = facts.modules.find((name) => name === "kvm_intel" || name === "kvm_amd");
      if (hardware !== undefined) return { kind: "kvm", reason: `${hardware} is loaded and /dev/kvm opens`, fix: null };
      const other = facts.modules.find((name) => name !== "kvm") ?? "an unknown module";
      return {
        kind: "tcg",
        reason: `/dev/kvm is provided by ${other}, not by hardware virtualization, ${slow}`,
        fix: "use a machine with VT-x or AMD-V, or turn on nested virtualization",
      };
    }
  }
}

/**
 * The decision for a VMM in a jail: the jailer makes its /dev/kvm, so whether this user may open the host's doesn't
 * matter. Without hardware virtualization nothing runs.
 */
export function decideJailedAcceleration(facts: KvmFacts): Acceleration {
  const decided = decideAcceleration(facts.device === "forbidden" ? { ...facts, device: "usable" } : facts);
  if (decided.kind === "kvm") {
    const hardware = facts.modules.find((name) => name === "kvm_intel" || name === "kvm_amd");
    return { ...decided, reason: `${hardware} is loaded and /dev/kvm is there` };
  }
  return {
    ...decided,
    reason: `${decided.reason.replace(/, so guests run by emulation.*$/, "")}, and Firecracker needs it`,
  };
}

export function readKvmFacts(): KvmFacts {
  const modules = ["kvm", "kvm_intel", "kvm_amd", "kvm_pvm"].filter((name) => existsSync(`/sys/module/${name}`));
  try {
    closeSync(openSync("/dev/kvm", constants.O_RDWR));
    return { device: "usable", modules };
  } catch (thrown) {
    const code = (thrown as NodeJS.ErrnoException).code;
    return {
      device: code === "ENOENT" ? "missing" : code === "EACCES" || code === "EPERM" ? "forbidden" : "broken",
      modules,
    };
  }
}

export function detectAcceleration(): Acceleration {
  return decideAcceleration(readKvmFacts());
}
