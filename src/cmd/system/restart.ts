/** `banger system restart`: both daemons anew; VMs keep running, callers wait at the sockets. */

import { BangerError } from "../../shared/errors.ts";
import { systemPaths } from "../../shared/places/paths.ts";
import { checkRoot, waitForAnswers } from "./install.ts";
import { readInstall } from "./read-install.ts";
import { checkSystemd, listVmScopes, systemctl } from "./host/systemd.ts";
import { SERVICES } from "./units.ts";

export interface RestartResult {
  /** VMs that ran before and run still. */
  readonly runningVms: number;
}

/** @throws BangerError NEEDS_ROOT, HOST_UNSUPPORTED, WRONG_STATE when nothing is installed, FAILED, DAEMON_UNREACHABLE */
export async function restartSystem(say: (message: string) => void): Promise<RestartResult> {
  checkRoot("banger system restart");
  checkSystemd();
  const paths = systemPaths();
  if ((await readInstall(paths.installFile)) === null) throw notInstalled();
  const before = await listVmScopes();
  say(`restarting ${SERVICES.join(" and ")}`);
  // One that failed too often would not start again by itself.
  await systemctl("reset-failed", ...SERVICES);
  await systemctl("restart", ...SERVICES);
  await waitForAnswers(paths);
  const after = new Set(await listVmScopes());
  const lost = before.filter((scope) => !after.has(scope));
  if (lost.length > 0)
    throw new BangerError("FAILED", `these VMs stopped while the daemon and the helper restarted: ${lost.join(", ")}`, {
      details: { lost },
    });
  return { runningVms: before.length };
}

/** The error of a command that needs an installed system. */
export function notInstalled(): BangerError {
  return new BangerError("WRONG_STATE", "banger is not installed on this system", {
    hint: "sudo banger system install --owner $USER",
  });
}
