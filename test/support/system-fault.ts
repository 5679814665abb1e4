/**
 * A daemon of {@link makeWorld}'s world in a process of its own, which creates a VM, stops or deletes it if that is the
 * operation, and kills itself (SIGKILL) at one journal entry: `bun system-fault.ts ROOT OPERATION STEP PHASE`. The helper
 * it talks to is in the parent and lives on.
 */

import { openDatabase } from "../../src/daemon/store/database.ts";
import { VmTable } from "../../src/daemon/store/vms.ts";
import { systemPaths } from "../../src/shared/places/paths.ts";
import { FACTS, run, startService } from "./system-world.ts";

const [root = "", operation, step, phase] = process.argv.slice(2);
const paths = systemPaths(root);
const db = openDatabase(paths.database);
const vms = new VmTable(db);
const service = await startService({
  paths,
  db,
  config: {},
  facts: FACTS,
  shutDown: (id) => process.kill(vms.list().find((vm) => vm.id === id)?.pid ?? NaN, "SIGKILL"),
  hook: (...at) => {
    if (at[0] === operation && at[1] === step && at[2] === phase) process.kill(process.pid, "SIGKILL");
  },
});
const spec = { vcpu: 1, memoryMiB: 256, diskBytes: 64 * 1024 ** 2, nat: true };
const { id } = await service.lifecycle.create({ name: "fresh", image: "debian", spec, start: true }, run);
if (operation === "stop") await service.lifecycle.stop(id, run);
if (operation === "delete") await service.lifecycle.delete(id);
throw new Error(`${operation} ${step} ${phase} was never reached`);
