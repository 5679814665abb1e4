/** What a VM's life cycle needs of a VMM. */

import type { VmId, VmSpec } from "../../shared/contract/schemas.ts";

/** A process named so that pid reuse can't confuse it: pid plus field 22 of /proc/pid/stat. */
export interface ProcessIdentity {
  readonly pid: number;
  readonly startTicks: string;
}

/** Everything a monitor is told about one VM. All paths absolute. */
export interface LaunchPlan {
  readonly id: VmId;
  readonly name: string;
  readonly spec: VmSpec;
  readonly acceleration: "kvm" | "tcg";
  /** ELF vmlinux. */
  readonly kernelPath: string;
  readonly initrdPath: string | null;
  /** qcow2 overlay over the image's root file system; the guest's first disk. */
  readonly rootDiskPath: string;
  /** Raw ext4, mounted at /root; the guest's second disk. */
  readonly workDiskPath: string;
  /** Raw tar archive, read-only; the guest's third disk. */
  readonly identityDiskPath: string;
  readonly serialLogPath: string;
  readonly vmmLogPath: string;
  /** Directory, mode 0700, for the control socket and pid file. */
  readonly runtimeDir: string;
}

export interface LaunchedVmm {
  readonly process: ProcessIdentity;
  /** Where the guest's port 22 is reachable from the host. */
  readonly sshHost: string;
  readonly sshPort: number;
}

/** What a VM's life cycle needs of a monitor that runs, whoever started it. */
export interface Vmm {
  /** Every live process of this VM, found on the host itself, not from any record. Empty when nothing runs. */
  find(id: VmId, runtimeDir: string): Promise<readonly ProcessIdentity[]>;
  /** Sends a signal to the VMM. False when there is none. */
  signal(id: VmId, runtimeDir: string, signal: NodeJS.Signals): Promise<boolean>;
  /** Asks the guest to end by its virtual power button or keyboard. True when the monitor took the request. */
  powerDown(id: VmId, runtimeDir: string): Promise<boolean>;
  /**
   * Resolves when the guest's agent has opened its ports: what is sent earlier is lost. Without it, a connection is refused until the
   * agent listens. @throws BangerError VMM_FAILED, CANCELLED
   */
  waitForAgentPorts?(
    runtimeDir: string,
    options: { readonly timeoutMs: number; readonly signal: AbortSignal },
  ): Promise<void>;
  /** Ends every process of this VM and waits until it is gone; removes what it left. "Already gone" is success. */
  destroy(id: VmId, runtimeDir: string): Promise<void>;
}
