/**
 * A daemon of {@link makeWorld}'s world in a process of its own, which makes a VM and kills itself (SIGKILL) at one journal
 * entry: `bun system-fault.ts ROOT OPERATION STEP PHASE`. The helper it talks to is in the parent and lives on.
 */

import { openDatabase } from "../../src/daemon/store/database.ts";
import { systemPaths } from "../../src/shared/paths.ts";
import { FACTS, run, startService } from "./system-world.ts";

const [root = "", operation, step, phase] = process.argv.slice(2);
const paths = systemPaths(root);
const service = await startService({
  paths,
  db: openDatabase(paths.database),
  config: {},
  facts: FACTS,
  hook: (...at) => {
    if (at[0] === operation && at[1] === step && at[2] === phase) process.kill(process.pid, "SIGKILL");
  },
});
const spec = { vcpu: 1, memoryMiB: 256, diskBytes: 64 * 1024 ** 2, nat: true };
await service.create({ name: "fresh", image: "debian", spec, start: true }, run);
throw new Error(`${operation} ${step} ${phase} was never reached`);
