/**
 * The owner daemon from the checkout, which kills itself (SIGKILL) at one journal entry:
 * `bun fault-daemon.ts OPERATION STEP PHASE`. Paths come from the environment, as the product's do.
 */

import { homedir } from "node:os";
import { rootlessPaths } from "../../src/shared/places/paths.ts";
import { startDaemon } from "../../src/daemon/main.ts";

const [operation, step, phase] = process.argv.slice(2);

const daemon = await startDaemon(rootlessPaths(process.env, homedir(), process.getuid?.() ?? -1), {
  hook: (...at) => {
    if (at[0] === operation && at[1] === step && at[2] === phase) process.kill(process.pid, "SIGKILL");
  },
});
if (daemon === null) throw new Error("another daemon serves this home");
await daemon.stopped;
