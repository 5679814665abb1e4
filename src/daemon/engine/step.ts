/**
 * A step of a VM's life: one thing done to the host, and how to take it back. The file of a step exports a function that
 * makes it from what of its engine it needs.
 */

import type { Config } from "../../shared/config.ts";
import type { Progress } from "../../shared/contract/owner-api.ts";
import type { Paths } from "../../shared/places/paths.ts";
import type { VmId, VmRecord } from "../../shared/contract/schemas.ts";
import type { Guest } from "../guest/guest.ts";
import type { ImageFiles } from "../image/store.ts";
import type { GuestAccess, VmDirs } from "./guest-access.ts";

/** What an undo may use: nothing that a crash could have lost. */
export interface UndoContext {
  readonly id: VmId;
  readonly dirs: VmDirs;
  readonly guest: Guest;
  readonly paths: Paths;
}

export interface StepContext extends UndoContext {
  readonly engine: GuestAccess;
  /** With what the steps before said of it. */
  readonly vm: VmRecord;
  readonly config: Config;
  readonly image: ImageFiles;
  readonly acceleration: "kvm" | "tcg";
  readonly signal: AbortSignal;
  progress(progress: Progress): void;
}

/** What a step found out, for the VM's record. */
export type RecordPatch = Partial<Pick<VmRecord, "pid" | "address" | "bootId" | "agent">>;

export interface Step {
  readonly name: string;
  /** Needs nothing of the step before it, so the two run together (with the one before that, when it too says so). */
  readonly together?: true;
  do(context: StepContext): Promise<RecordPatch | void>;
  /** Takes the step back wherever it stood; "already gone" is success. */
  undo(context: UndoContext): Promise<void>;
}
