/** The steps of rootless mode, in order. */

import type { Step } from "../step.ts";
import { fileSync } from "./file-sync.ts";
import { identity } from "./identity.ts";
import { launch } from "./launch.ts";
import { ready } from "./ready.ts";
import { rootOverlay } from "./root-overlay.ts";
import { runtimeDirectory } from "./runtime-directory.ts";
import { serialLog } from "./serial-log.ts";
import { vmDirectory } from "./vm-directory.ts";
import { workDisk } from "./work-disk.ts";

export const createSteps: readonly Step[] = [vmDirectory, rootOverlay, workDisk, fileSync];
export const startSteps: readonly Step[] = [runtimeDirectory, identity, serialLog, launch, ready];
