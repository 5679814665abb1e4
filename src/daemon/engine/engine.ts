/**
 * What differs between the two ways to run: rootless on QEMU, system on Firecracker through the root helper. Everything
 * above (service, runner, API) knows an engine by this interface only.
 */

import type { DoctorRow, Leftover, VmId, VmRecord } from "../../shared/contract/schemas.ts";
import type { GuestAddress } from "../guest/ssh/guest.ts";
import type { Acceleration } from "./acceleration.ts";
import type { Vmm } from "./vmm.ts";
import type { Step, VmDirs } from "./step.ts";

/** Something that no VM owns, and how to take it away. */
export interface Found {
  readonly leftover: Leftover;
  readonly remove: () => Promise<void>;
}

export interface Deadlines {
  /** From the VMM's start until a command runs in the guest. */
  readonly readyMs: number;
  /** How long a guest may take to shut down before its power is cut. */
  readonly powerOffMs: number;
}

export interface LogFile extends Disposable {
  readonly path: string;
}

export interface Engine {
  readonly name: VmRecord["engine"];
  readonly vmm: Vmm;
  /** What a VM has from create to delete. */
  readonly createSteps: readonly Step[];
  /** What a VM has from start to stop. */
  readonly startSteps: readonly Step[];
  /** Once, before any VM is looked at. What fails here is logged and is no reason not to serve. */
  prepare(): Promise<void>;
  /** How a guest would run now. */
  detectAcceleration(): Acceleration;
  /** The same for a start about to happen. @throws BangerError NO_KVM where this engine runs nothing without it. */
  requireAcceleration(): Acceleration["kind"];
  deadlines(acceleration: Acceleration["kind"]): Deadlines;
  /**
   * Fields of a VM's record that no other may have too, kept where they still fit. Called in the same turn as the row is
   * written. @throws BangerError IN_USE
   */
  reserve(others: readonly VmRecord[], own?: VmRecord): Partial<Pick<VmRecord, "guestIp">>;
  /** Where a VM's guest is, by its record; null when it doesn't run. */
  guestAddress(vm: VmRecord, dirs: VmDirs): GuestAddress | null;
  /** The word by which a guest ends itself and its VMM. */
  readonly shutdownWord: "poweroff" | "reboot";
  /** A VM's log, while it runs and after; null when there is none. Its path is good until it is disposed of. */
  openLog(id: VmId, dirs: VmDirs, source: "serial" | "vmm"): LogFile | null;
  /** Cuts logs that grew past their limit. */
  trimLogs(id: VmId, dirs: VmDirs): Promise<void>;
  /** Makes the root disk of a VM that doesn't run larger. */
  growRoot(dirs: VmDirs, bytes: number, signal: AbortSignal): Promise<void>;
  /** Lets a running VM out or not; null where that takes a stopped one. */
  readonly setNat: ((vm: VmRecord, nat: boolean) => Promise<void>) | null;
  /** A VM that was found running when the daemon started: what must be told to the host again. */
  adopt(vm: VmRecord): Promise<void>;
  /** Now and then for a VM that runs: what the host may have lost. True when the guest has ended and its VMM hasn't. */
  lookAfter(vm: VmRecord, dirs: VmDirs): Promise<boolean>;
  /** A VM is gone for good: what was kept for the next ones may be too much now. */
  afterDelete(): Promise<void>;
  /** Bytes on the host, beyond the VM's own directory. */
  extraDiskBytes(id: VmId): Promise<number>;
  /** What is on this host because of this engine, and no VM of `known` owns. */
  findLeftovers(known: ReadonlySet<string>): Promise<readonly Found[]>;
  /** Rows of doctor that only this engine has. */
  examine(signal: AbortSignal): Promise<readonly DoctorRow[]>;
  /** The daemon ends; VMs keep running. */
  close(): Promise<void>;
}
