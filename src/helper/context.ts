/**
 * What every verb receives: the paths and the decisions of install. It keeps no state, because the host itself is the
 * record.
 */

import type { InstallConfig } from "../shared/install-config.ts";
import type { SystemPaths } from "../shared/places/paths.ts";

export interface HelperContext {
  readonly paths: SystemPaths;
  readonly install: InstallConfig;
  /** Where the unified cgroup hierarchy is mounted. */
  readonly cgroupRoot: string;
}
