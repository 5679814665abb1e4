/** `banger system status`: what is installed, and whether it answers. Anybody may ask; what he may not see is null. */

import { lstat } from "node:fs/promises";
import { toBangerError } from "../../shared/errors.ts";
import type { InstallConfig } from "../../shared/install-config.ts";
import { systemPaths } from "../../shared/places/paths.ts";
import { vmOfScope } from "../../shared/host-names.ts";
import { callHelper } from "../../shared/helper-client.ts";
import { pingDaemon } from "../daemon/ping.ts";
import { readInstall } from "./read-install.ts";
import { checkSystemd, listVmScopes, readUnits, type UnitState } from "./host/systemd.ts";
import { UNITS } from "./units.ts";

const ANSWER_TIMEOUT_MS = 10_000;

export interface SocketState {
  readonly path: string;
  /** Octal permission bits; null when it isn't there or may not be looked at. */
  readonly mode: string | null;
  readonly uid: number | null;
}

/** One of the daemons: who answers, or why nobody does. */
export interface AnswerState {
  readonly version: string | null;
  readonly pid: number | null;
  readonly error: string | null;
}

export interface SystemStatus {
  readonly installed: boolean;
  readonly owner: InstallConfig["owner"] | null;
  readonly vmIds: InstallConfig["vm_ids"] | null;
  readonly firecracker: InstallConfig["firecracker"] | null;
  readonly units: readonly UnitState[];
  readonly sockets: readonly SocketState[];
  readonly daemon: AnswerState;
  readonly helper: AnswerState;
  readonly runningVms: readonly string[];
}

/** @throws BangerError HOST_UNSUPPORTED without systemd, CONFIG_INVALID */
export async function readSystemStatus(): Promise<SystemStatus> {
  checkSystemd();
  const paths = systemPaths();
  const config = await readInstall(paths.installFile);
  if (config === null) {
    const nobody = { version: null, pid: null, error: "not installed" };
    return {
      installed: false,
      owner: null,
      vmIds: null,
      firecracker: null,
      units: [],
      sockets: [],
      daemon: nobody,
      helper: nobody,
      runningVms: [],
    };
  }
  const [units, sockets, daemon, helper, scopes] = await Promise.all([
    readUnits(UNITS),
    Promise.all([paths.apiSocket, paths.helperSocket].map(readSocket)),
    answerOf(async () => await pingDaemon(paths.apiSocket, ANSWER_TIMEOUT_MS)),
    answerOf(async () => await callHelper(paths.helperSocket, "priv.ping", {}, { answerMs: ANSWER_TIMEOUT_MS })),
    listVmScopes(),
  ]);
  return {
    installed: true,
    owner: config.owner,
    vmIds: config.vm_ids,
    firecracker: config.firecracker ?? null,
    units,
    sockets,
    daemon,
    helper,
    runningVms: scopes.flatMap((scope) => vmOfScope(scope) ?? []),
  };
}

/** True when everything is there, runs, and answers. */
export function isHealthy(status: SystemStatus): boolean {
  return (
    status.installed &&
    status.units.length === UNITS.length &&
    status.units.every(({ active, enabled }) => active === "active" && enabled === "enabled") &&
    status.daemon.version !== null &&
    status.helper.version !== null
  );
}

async function readSocket(path: string): Promise<SocketState> {
  const info = await lstat(path).catch(() => null);
  if (info === null || !info.isSocket()) return { path, mode: null, uid: null };
  return { path, mode: (info.mode & 0o7777).toString(8).padStart(4, "0"), uid: info.uid };
}

async function answerOf(ask: () => Promise<{ readonly version: string; readonly pid: number }>): Promise<AnswerState> {
  try {
    const { version, pid } = await ask();
    return { version, pid, error: null };
  } catch (thrown) {
    return { version: null, pid: null, error: toBangerError(thrown).message };
  }
}
