/** systemctl, as far as the installed system needs it. Source: systemctl(1), systemd(1). */

import { existsSync } from "node:fs";
import { BangerError } from "../../../shared/errors.ts";
import { VM_SCOPES, vmOfScope } from "../../../shared/host-names.ts";
import { runRootTool, tryRootTool } from "./root-tool.ts";

/** A unit's start waits for its READY=1, whose own deadline is shorter. */
const SYSTEMCTL_TIMEOUT_MS = 200_000;

/** @throws BangerError HOST_UNSUPPORTED where systemd isn't PID 1. Source: sd_booted(3) */
export function checkSystemd(): void {
  if (!existsSync("/run/systemd/system"))
    throw new BangerError("HOST_UNSUPPORTED", "the installed system needs systemd, and this host doesn't run it", {
      hint: "banger vm run",
    });
}

/** @throws BangerError FAILED, with the command that shows the log when a unit failed */
export async function systemctl(...words: readonly string[]): Promise<string> {
  try {
    return await runRootTool(["systemctl", ...words], SYSTEMCTL_TIMEOUT_MS);
  } catch (thrown) {
    if (!(thrown instanceof BangerError) || thrown.code !== "FAILED") throw thrown;
    throw new BangerError("FAILED", thrown.message, {
      ...thrown.toDocument(),
      hint: "journalctl -b -u bangerd.service -u bangerd-root.service",
      cause: thrown,
    });
  }
}

export interface UnitState {
  readonly name: string;
  /** `active`, `inactive`, `failed`, …; `inactive` also for one that isn't there. */
  readonly active: string;
  /** `enabled`, `disabled`, …; empty for one that isn't there. */
  readonly enabled: string;
  /** Null when no process of it runs. */
  readonly pid: number | null;
}

export async function readUnits(names: readonly string[]): Promise<readonly UnitState[]> {
  const { stdout } = await tryRootTool(
    ["systemctl", "show", "--property=Id,ActiveState,UnitFileState,MainPID", ...names],
    SYSTEMCTL_TIMEOUT_MS,
  );
  return parseUnits(stdout);
}

/** What `systemctl show` prints: `Key=value` lines, a blank one between units. Pure. */
export function parseUnits(text: string): readonly UnitState[] {
  return text
    .split(/\n\n+/)
    .map((block) => new Map(block.split("\n").map((line) => line.split(/=(.*)/s, 2) as [string, string])))
    .filter((block) => block.has("Id"))
    .map((block) => {
      const pid = Number(block.get("MainPID") ?? "0");
      return {
        name: block.get("Id") ?? "",
        active: block.get("ActiveState") ?? "",
        enabled: block.get("UnitFileState") ?? "",
        pid: pid > 0 ? pid : null,
      };
    });
}

/** Scopes of VMs that run. */
export async function listVmScopes(): Promise<readonly string[]> {
  const { stdout } = await tryRootTool(
    ["systemctl", "list-units", "--type=scope", "--state=running", "--plain", "--no-legend", "--full", VM_SCOPES],
    SYSTEMCTL_TIMEOUT_MS,
  );
  return stdout
    .split("\n")
    .map((line) => line.trim().split(/\s+/)[0] ?? "")
    .filter((name) => vmOfScope(name) !== null);
}
