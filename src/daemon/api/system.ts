/** The `system.*` methods. */

import { API_LEVEL, MINIMUM_API_LEVEL } from "../../shared/contract/owner-api.ts";
import { VERSION } from "../../shared/version.ts";
import { examineHost } from "../doctor/doctor.ts";
import { findLeftovers, removeLeftovers } from "../vm/gc.ts";
import type { VmService } from "../vm/service.ts";
import type { HandlersOf } from "./handlers.ts";

export function createSystemHandlers(
  { parts, agents }: Pick<VmService, "parts" | "agents">,
  startedAt: Date,
  shutdown: () => void,
): HandlersOf<"system"> {
  const { paths, vms } = parts;
  return {
    "system.ping": async () => ({
      version: VERSION,
      apiLevel: API_LEVEL,
      minimumApiLevel: MINIMUM_API_LEVEL,
      mode: paths.mode,
      pid: process.pid,
      uid: process.getuid?.() ?? -1,
      startedAt: startedAt.toISOString(),
      stateDir: paths.stateDir,
      runtimeDir: paths.runtimeDir,
    }),
    "system.doctor": async (_input, { signal }) => {
      await agents.lookAtAll();
      return [...(await examineHost(parts, signal))];
    },
    "system.gc": async ({ dryRun }) => {
      const found = await findLeftovers(parts);
      if (!dryRun) await removeLeftovers(found);
      return found.map(({ leftover }) => leftover);
    },
    "system.shutdown": async () => {
      const runningVms = vms.list().filter(({ state }) => state === "running").length;
      // After the answer is out.
      setTimeout(shutdown, 10);
      return { runningVms };
    },
  };
}
