/** Where an image comes from. A source makes a root file system; the store takes its digest, names it and keeps it. */

import type { Progress } from "../../../shared/contract/owner-api.ts";
import type { ImageRecord } from "../../../shared/contract/schemas.ts";

export interface ImageRun {
  readonly signal: AbortSignal;
  progress(progress: Progress): void;
}

/** The root file system's name in the staging directory. */
export const ROOTFS = "rootfs.ext4";

export interface ImageSource {
  /** Refuses what can't work, before anything is made. */
  check?(): Promise<void>;
  /** Makes a clean {@link ROOTFS} in `stagingDir` (private, ours, empty). What else is left there is thrown away. */
  fill(stagingDir: string, run: ImageRun): Promise<FilledImage>;
}

/** The part of an image's record that only its source knows. */
export type Origin = Pick<ImageRecord, "distro" | "release" | "source" | "builtBy" | "units">;

export interface FilledImage {
  readonly origin: Origin;
  readonly kernel: NewKernel | KnownKernel;
}

/** A kernel that came with the image, and goes with it. */
export interface NewKernel {
  readonly kind: "new";
  readonly release: string;
  /** vmlinux or bzImage. */
  readonly image: Uint8Array;
  readonly initrd: Uint8Array;
}

/** A kernel in the kernel store. */
export interface KnownKernel {
  readonly kind: "known";
  readonly name: string;
}
