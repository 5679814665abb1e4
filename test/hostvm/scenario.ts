/** What a file in scenarios/ exports as `scenario`. */

import type { Host } from "./host.ts";

/** What a scenario may need. main.ts checks which are available. */
export type Need = "firecracker" | "banger" | "image";

export interface Scenario {
  readonly name: string;
  /** The promise: the scenario fails if it is broken. */
  readonly summary: string;
  readonly needs?: readonly Need[];
  /** Runs in its own freshly booted host. */
  readonly isolated?: true;
  /** Left out of the default run, which boots few guests; `npm run test:full` and `--scenario` include it. */
  readonly isLong?: true;
  /** Default ten minutes. */
  readonly timeoutMs?: number;
  run(host: Host): Promise<void>;
}
