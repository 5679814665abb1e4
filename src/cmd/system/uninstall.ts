/** `banger system uninstall`: takes away everything that install put there, and what VMs left on the host. */

import { existsSync } from "node:fs";
import { lstat, readlink, rename, rm, rmdir } from "node:fs/promises";
import { basename, dirname } from "node:path";
import * as v from "valibot";
import { BangerError, isErrno, toBangerError } from "../../shared/errors.ts";
import type { HelperOutputOf } from "../../shared/contract/helper-api.ts";
import { type SystemPaths, systemPaths } from "../../shared/places/paths.ts";
import { VmId } from "../../shared/contract/schemas.ts";
import { BANGER_SLICE, vmOfDm, VMS_SLICE } from "../../shared/host-names.ts";
import { callHelper } from "../../shared/helper-client.ts";
import { removeFirewallRules, removeInterface } from "./host/host-network.ts";
import { checkRoot, EXECUTABLE, keptInstallFile } from "./install.ts";
import { FIRECRACKER_DIR } from "./firecracker/place.ts";
import { checkSystemd, listVmScopes, systemctl } from "./host/systemd.ts";
import { readInstall } from "./read-install.ts";
import { notInstalled } from "./restart.ts";
import { runRootTool, tryRootTool } from "./host/root-tool.ts";
import { DAEMON_EXECUTABLE, HELPER_EXECUTABLE, renderSystemFiles, UNITS } from "./units.ts";

const TOOL_TIMEOUT_MS = 60_000;
const INVENTORY_TIMEOUT_MS = 30_000;
const TREE_TIMEOUT_MS = 600_000;

export interface UninstallOptions {
  /** Though VMs run: they are ended. */
  readonly force: boolean;
  /** Removes VMs, images and settings as well. */
  readonly purge: boolean;
  /** Told each thing before it is done. */
  readonly say: (message: string) => void;
}

export interface UninstallResult {
  /** What could not be removed, each with its reason; empty when nothing of banger is left but kept state. */
  readonly left: readonly string[];
  /** Kept state; null after a purge. */
  readonly stateDir: string | null;
}

/**
 * Uninstalls. Never stops at the first thing that can't be removed.
 * @throws BangerError NEEDS_ROOT, HOST_UNSUPPORTED, WRONG_STATE when nothing is installed, IN_USE while VMs run
 */
export async function uninstallSystem(options: UninstallOptions): Promise<UninstallResult> {
  checkRoot("banger system uninstall");
  checkSystemd();
  const { force, purge, say } = options;
  const paths = systemPaths();
  const config = await readInstall(paths.installFile);
  if (config === null && !(purge && existsSync(paths.baseDir))) throw notInstalled();
  const running = await listVmScopes();
  if (running.length > 0 && !force) {
    throw new BangerError("IN_USE", `${running.length} ${running.length === 1 ? "VM is" : "VMs are"} running`, {
      hint: "banger vm stop NAME…, or: sudo banger system uninstall --force",
      details: { running },
    });
  }
  const left: string[] = [];
  const attempt = async (what: string, work: () => Promise<unknown>): Promise<void> => {
    try {
      await work();
    } catch (thrown) {
      left.push(`${what}: ${toBangerError(thrown).message}`);
    }
  };

  // It would put back what is taken away, and so would its owner, whose words to the helper end with the units below.
  say("stopping the owner daemon");
  await attempt("owner daemon", async () => await systemctl("stop", "bangerd.socket", "bangerd.service"));
  if (running.length > 0) {
    say(`stopping ${running.length} VMs`);
    await attempt("VMs", async () => await systemctl("kill", "--signal=KILL", ...running));
  }
  if (config !== null) await removeHostObjects(paths, say, attempt);
  say("stopping banger's units");
  await attempt("units", async () => await systemctl("disable", "--quiet", "--now", ...UNITS));
  await attempt("slice", async () => await systemctl("stop", VMS_SLICE, BANGER_SLICE));
  const owner = config?.owner ?? { uid: 0, gid: 0, name: "root" };
  for (const { path } of renderSystemFiles({ owner, vm_ids: { first: 0, count: 0 } }, paths)) {
    say(`removing ${path}`);
    await attempt(path, async () => await rm(path, { force: true }));
  }
  await attempt("systemd", async () => await systemctl("daemon-reload"));
  await tryRootTool(["systemctl", "reset-failed", ...UNITS], TOOL_TIMEOUT_MS);

  for (const path of [DAEMON_EXECUTABLE, HELPER_EXECUTABLE]) {
    say(`removing ${path}`);
    await attempt(path, async () => await removeLink(path));
  }
  for (const path of [
    EXECUTABLE,
    `${EXECUTABLE}.previous`,
    paths.apiSocketDir,
    paths.helperSocketDir,
    dirname(FIRECRACKER_DIR),
  ]) {
    if (!existsSync(path)) continue;
    say(`removing ${path}`);
    await attempt(path, async () => await removeTree(path));
  }
  if (purge) {
    for (const path of [paths.baseDir, paths.cacheDir, dirname(paths.installFile)]) {
      say(`removing ${path}`);
      await attempt(path, async () => await removeTree(path));
    }
    return { left, stateDir: null };
  }
  // VMs' ids must mean the same when banger comes back to this state.
  say(`keeping ${paths.baseDir}`);
  await attempt(paths.installFile, async () => await rename(paths.installFile, keptInstallFile(paths)));
  await attempt(paths.cacheDir, async () => await removeTree(paths.cacheDir));
  // The owner's settings stay, and with them their directory.
  await attempt(dirname(paths.installFile), async () => await removeIfEmpty(dirname(paths.installFile)));
  return { left, stateDir: paths.baseDir };
}

type Attempt = (what: string, work: () => Promise<unknown>) => Promise<void>;

/** Asks the helper what the host holds of banger's, and removes it. */
async function removeHostObjects(paths: SystemPaths, say: (message: string) => void, attempt: Attempt): Promise<void> {
  let inventory: HelperOutputOf<"priv.inventory"> | null = null;
  await attempt("inventory", async () => {
    inventory = await callHelper(paths.helperSocket, "priv.inventory", {}, { answerMs: INVENTORY_TIMEOUT_MS });
  });
  if (inventory === null) return;
  const { taps, bridges, dm, cow_files, scopes, jails } = inventory as HelperOutputOf<"priv.inventory">;
  const ids = new Set([
    ...[...scopes, ...cow_files].map(({ vm }) => vm),
    ...dm.flatMap((name) => vmOfDm(name) ?? []),
    ...jails.map((path) => basename(path)),
  ]);
  for (const id of ids) {
    await attempt(`VM ${id}`, async () => {
      const vm = v.parse(VmId, id);
      say(`removing the resources of VM ${vm}`);
      await callHelper(paths.helperSocket, "priv.kill_process", { vm });
      await callHelper(paths.helperSocket, "priv.cleanup_jailer_chroot", { vm });
      await callHelper(paths.helperSocket, "priv.remove_dm_snapshot", { vm, discard: false });
    });
  }
  for (const name of [...taps.map(({ tap }) => tap), ...bridges]) {
    say(`removing interface ${name}`);
    await attempt(name, async () => await removeInterface(name));
  }
  await attempt("firewall rules", removeFirewallRules);
}

/** @throws BangerError ALREADY_EXISTS for what isn't a link to banger: then it isn't ours to remove */
async function removeLink(path: string): Promise<void> {
  const info = await lstat(path).catch(() => null);
  if (info === null) return;
  if (!info.isSymbolicLink() || (await readlink(path)) !== basename(EXECUTABLE))
    throw new BangerError("ALREADY_EXISTS", `${path} does not belong to banger`);
  await rm(path);
}

async function removeIfEmpty(path: string): Promise<void> {
  await rmdir(path).catch((thrown: unknown) => {
    if (!isErrno(thrown, "ENOTEMPTY")) throw thrown;
  });
}

/** By the host's own rm, which follows no links and can be told to stay on one file system. */
async function removeTree(path: string): Promise<void> {
  await runRootTool(["rm", "-rf", "--one-file-system", "--", path], TREE_TIMEOUT_MS);
}
