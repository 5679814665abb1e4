/** How to meet a VM's guest: where it is, how long it may take, and its logs. All that steps need to know of an engine. */

import type { VmId, VmRecord } from "../../shared/contract/schemas.ts";
import type { GuestAddress } from "../guest/guest.ts";
import type { Acceleration } from "./acceleration.ts";
import type { LogFile } from "./log-files.ts";

export interface VmDirs {
  /** Disks, logs, keys: `<stateDir>/vms/<id>`. */
  readonly state: string;
  /** Sockets and pid file: `<runtimeDir>/vms/<id>`. */
  readonly runtime: string;
}

export interface Deadlines {
  /** From the VMM's start until a command runs in the guest. */
  readonly readyMs: number;
  /** How long a guest may take to shut down before its power is cut. */
  readonly powerOffMs: number;
}

export interface GuestAccess {
  deadlines(acceleration: Acceleration["kind"]): Deadlines;
  /** Where a VM's guest is, by its record; null when it doesn't run. */
  guestAddress(vm: VmRecord, dirs: VmDirs): GuestAddress | null;
  /** A VM's log, while it runs and after; null when there is none. Its path is good until it is disposed of. */
  openLog(id: VmId, dirs: VmDirs, source: "serial" | "vmm"): LogFile | null;
}
