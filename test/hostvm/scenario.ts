/** What a file under scenarios/ exports as `scenario`. */

import type { Host } from "./host.ts";

/** Things a scenario can't do without; main.ts says which are here. */
export type Need = "firecracker" | "banger" | "image";

export interface Scenario {
  readonly name: string;
  /** What is promised: the scenario fails when this is broken. */
  readonly summary: string;
  readonly needs?: readonly Need[];
  /** Gets a freshly booted host of its own. */
  readonly isolated?: true;
  /** Left out of the default run, which boots few guests; `npm run test:full` and `--scenario` have it. */
  readonly isLong?: true;
  /** Default ten minutes. */
  readonly timeoutMs?: number;
  run(host: Host): Promise<void>;
}
