/** A VM's steps, in order. Each engine has its own for disks, network and VMM; what both do is listed here, once. */

import type { Step } from "../step.ts";
import { fileSync } from "./file-sync.ts";
import { identity } from "./identity.ts";
import { runtimeDirectory } from "./runtime-directory.ts";
import { vmDirectory } from "./vm-directory.ts";
import { workDisk } from "./work-disk.ts";

const beside = (step: Step): Step => ({ ...step, together: true });

/** From create to delete. `before` holds whatever must be given back last. */
export function createStepsWith(engine: {
  readonly before?: readonly Step[];
  readonly rootDisk: Step;
}): readonly Step[] {
  return [...(engine.before ?? []), vmDirectory(), engine.rootDisk, beside(workDisk()), beside(fileSync())];
}

/** From start to stop. `host` is what the VMM needs of the host; it, the sockets' directory and the identity need nothing of each other. */
export function startStepsWith(engine: {
  readonly host?: readonly Step[];
  readonly launch: readonly Step[];
  readonly ready: Step;
}): readonly Step[] {
  return [runtimeDirectory(), ...(engine.host ?? []).map(beside), beside(identity()), ...engine.launch, engine.ready];
}
