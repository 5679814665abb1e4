/** The rootless engine: QEMU as the user, qcow2 overlays, user-mode network. */

import { stat, truncate } from "node:fs/promises";
import type { Paths } from "../../../shared/places/paths.ts";
import type { DoctorRow } from "../../../shared/contract/schemas.ts";
import { growRootOverlay } from "./root-overlay.ts";
import { READY_DEADLINE_MS, readTail } from "../../guest/ready.ts";
import { examineTools } from "../../doctor/tools.ts";
import { tryTool } from "../../host/run-tool.ts";
import { detectAcceleration } from "../acceleration.ts";
import { findProcesses, killProcess } from "../../host/processes.ts";
import { createQemuVmm, QEMU } from "./qemu.ts";
import type { Engine, Found } from "../engine.ts";
import { createStepsWith, startStepsWith } from "../steps/index.ts";
import { keptLog, serialLogPath } from "../log-files.ts";
import { launch } from "./steps/launch.ts";
import { ready } from "../steps/ready.ts";
import { rootOverlay, rootOverlayPath } from "./steps/root-overlay.ts";
import { serialLog } from "./steps/serial-log.ts";

const POWER_OFF_MS = { kvm: 20_000, tcg: 90_000 } as const;
const SERIAL_LOG_LIMIT_BYTES = 8 * 1024 * 1024;
const TOOL_TIMEOUT_MS = 10_000;

export function createRootlessEngine(paths: Paths): Engine {
  const vmm = createQemuVmm();
  return {
    name: "qemu",
    vmm,
    createSteps: createStepsWith({ rootDisk: rootOverlay() }),
    startSteps: startStepsWith({ launch: [serialLog(), launch(vmm)], ready: ready({ vmm }) }),
    detectAcceleration,
    requireAcceleration: () => detectAcceleration().kind,
    deadlines: (acceleration) => ({
      readyMs: READY_DEADLINE_MS[acceleration],
      powerOffMs: POWER_OFF_MS[acceleration],
    }),
    guestAddress: ({ id, address, agent }, { runtime }) => {
      if (address === null) return null;
      const [sshHost = "", port = ""] = address.split(":");
      return { id, sshHost, sshPort: Number(port), runtimeDir: runtime, hasAgent: agent === "answers" };
    },
    shutdownWord: "poweroff",
    openLog: (_id, { state }, source) => keptLog(state, source),
    trimLogs: async (_id, { state }) => {
      // QEMU appends, so cutting the file is safe; half of the limit is kept.
      const path = serialLogPath(state);
      const info = await stat(path).catch(() => null);
      if (info === null || info.size <= SERIAL_LOG_LIMIT_BYTES) return;
      const tail = await readTail(path, SERIAL_LOG_LIMIT_BYTES / 2);
      await truncate(path, 0);
      await Bun.write(Bun.file(`${path}.old`), tail);
    },
    growRoot: async ({ state }, bytes, signal) => await growRootOverlay(rootOverlayPath(state), bytes, signal),
    findLeftovers: async (known) => await findStrayMonitors(paths, known),
    examine: async (signal) => [examineAcceleration(), ...(await examineQemu(signal))],
  };
}

/** VMMs of this state directory without a VM. Another state directory's VMs may run on this host too: ours name our disks. */
async function findStrayMonitors(paths: Paths, known: ReadonlySet<string>): Promise<readonly Found[]> {
  const prefix = `${paths.vmsDir}/`.replaceAll(",", ",,");
  const isStray = (argv: readonly string[]): boolean => {
    const id = /^banger-([0-9a-f]{12})$/.exec(argv[2] ?? "")?.[1];
    return (
      (argv[0] ?? "").endsWith(QEMU) &&
      id !== undefined &&
      !known.has(id) &&
      argv.some((word) => word.includes(`file=${prefix}${id}/`))
    );
  };
  return (await findProcesses(isStray)).map((identity) => ({
    leftover: { kind: "process", what: `${QEMU} (process ${identity.pid})` },
    remove: async () => await killProcess(identity),
  }));
}

function examineAcceleration(): DoctorRow {
  const { kind, reason, fix } = detectAcceleration();
  return kind === "kvm"
    ? { check: "kvm", level: "PASS", message: reason, fix: null }
    : { check: "kvm", level: "WARN", message: reason, fix };
}

async function examineQemu(signal: AbortSignal): Promise<readonly DoctorRow[]> {
  const tools = examineTools("rootless vm");
  if (tools[0]?.level !== "PASS") return tools;
  const [version, machines] = await Promise.all(
    [["--version"], ["-M", "help"]].map(
      async (words) => await tryTool([QEMU, ...words], { timeoutMs: TOOL_TIMEOUT_MS, signal }),
    ),
  );
  const name = /version (\S+)/.exec(version?.stdout ?? "")?.[1] ?? "of unknown version";
  if (/^microvm /m.test(machines?.stdout ?? "")) {
    return [...tools, { check: "qemu", level: "PASS", message: `QEMU ${name} with the microvm machine`, fix: null }];
  }
  return [
    ...tools,
    {
      check: "qemu",
      level: "FAIL",
      message: `QEMU ${name} has no microvm machine`,
      fix: "install QEMU 4.2 or later with microvm",
    },
  ];
}
