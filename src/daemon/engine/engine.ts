/**
 * What differs between the two ways to run: rootless on QEMU, system on Firecracker through the root helper. Everything
 * above (lifecycle, patrol, doctor, API) knows an engine by these interfaces only, each by the one it needs. A member is
 * optional where only one engine has the thing.
 */

import type { DoctorRow, Leftover, VmId, VmRecord } from "../../shared/contract/schemas.ts";
import type { Acceleration } from "./acceleration.ts";
import type { GuestAccess, VmDirs } from "./guest-access.ts";
import type { Step } from "./step.ts";
import type { Vmm } from "./vmm.ts";

/** Something that no VM owns, and how to take it away. */
export interface Found {
  readonly leftover: Leftover;
  readonly remove: () => Promise<void>;
}

/** Makes, starts, changes and ends VMs. */
export interface LifecycleEngine extends GuestAccess {
  readonly name: VmRecord["engine"];
  readonly vmm: Vmm;
  /** What a VM has from create to delete. */
  readonly createSteps: readonly Step[];
  /** What a VM has from start to stop. */
  readonly startSteps: readonly Step[];
  /** The word by which a guest ends itself and its VMM. */
  readonly shutdownWord: "poweroff" | "reboot";
  /** How a guest would run now. */
  detectAcceleration(): Acceleration;
  /** The same for a start about to happen. @throws BangerError NO_KVM where this engine runs nothing without it. */
  requireAcceleration(): Acceleration["kind"];
  /**
   * Fields of a VM's record that no other may have too, kept where they still fit. Called in the same turn as the row is
   * written. @throws BangerError IN_USE
   */
  reserve?(others: readonly VmRecord[], own?: VmRecord): Pick<VmRecord, "guestIp">;
  /** Makes the root disk of a VM that doesn't run larger. */
  growRoot(dirs: VmDirs, bytes: number, signal: AbortSignal): Promise<void>;
  /** Lets a running VM out or not. An engine without it needs a stopped one. */
  setNat?(vm: VmRecord, nat: boolean): Promise<void>;
  /** A VM is gone for good: what was kept for the next ones may be too much now. */
  afterDelete?(): Promise<void>;
}

/** Looks after VMs that run, whoever started them. */
export interface PatrolEngine {
  readonly vmm: Vmm;
  /** A VM that was found running when the daemon started: what must be told to the host again. */
  adopt?(vm: VmRecord): Promise<void>;
  /** Now and then for a VM that runs: what the host may have lost. True when the guest has ended and its VMM hasn't. */
  lookAfter?(vm: VmRecord, dirs: VmDirs): Promise<boolean>;
  /** Cuts logs that grew past their limit. */
  trimLogs(id: VmId, dirs: VmDirs): Promise<void>;
}

/** Says what is on this host, for doctor, gc and stats. */
export interface HostEngine {
  /** Rows of doctor that only this engine has. */
  examine(signal: AbortSignal): Promise<readonly DoctorRow[]>;
  /** What is on this host because of this engine, and no VM of `known` owns. */
  findLeftovers(known: ReadonlySet<string>): Promise<readonly Found[]>;
  /** Bytes on the host, beyond the VM's own directory. */
  extraDiskBytes?(id: VmId): Promise<number>;
}

/** An engine as the daemon holds it. */
export interface Engine extends LifecycleEngine, PatrolEngine, HostEngine {
  /** Once, before any VM is looked at. What fails here is logged and is no reason not to serve. */
  prepare?(): Promise<void>;
  /** The daemon ends; VMs keep running. */
  close?(): Promise<void>;
}
