/** The closed list. A verb of the contract that is missing here does not compile. */

import type { HelperVerbName } from "../../shared/contract/helper-api.ts";
import type { Verb } from "../verb.ts";
import { cleanupJailerChroot } from "./cleanup-jailer-chroot.ts";
import { clearResolverRouting } from "./clear-resolver-routing.ts";
import { createDmSnapshot } from "./create-dm-snapshot.ts";
import { createTap } from "./create-tap.ts";
import { deleteTap } from "./delete-tap.ts";
import { ensureBridge } from "./ensure-bridge.ts";
import { ensureNat } from "./ensure-nat.ts";
import { findFirecrackerPid } from "./find-firecracker-pid.ts";
import { inventory } from "./inventory.ts";
import { killProcess } from "./kill-process.ts";
import { launchFirecracker } from "./launch-firecracker.ts";
import { ping } from "./ping.ts";
import { probeNat } from "./probe-nat.ts";
import { releaseVm } from "./release-vm.ts";
import { removeDmSnapshot } from "./remove-dm-snapshot.ts";
import { resolveFirecrackerBinary } from "./resolve-firecracker-binary.ts";
import { signalProcess } from "./signal-process.ts";
import { syncResolverRouting } from "./sync-resolver-routing.ts";

export const VERBS: { readonly [Name in HelperVerbName]: Verb<Name> } = {
  "priv.ensure_bridge": ensureBridge,
  "priv.create_tap": createTap,
  "priv.delete_tap": deleteTap,
  "priv.ensure_nat": ensureNat,
  "priv.probe_nat": probeNat,
  "priv.sync_resolver_routing": syncResolverRouting,
  "priv.clear_resolver_routing": clearResolverRouting,
  "priv.create_dm_snapshot": createDmSnapshot,
  "priv.remove_dm_snapshot": removeDmSnapshot,
  "priv.resolve_firecracker_binary": resolveFirecrackerBinary,
  "priv.launch_firecracker": launchFirecracker,
  "priv.find_firecracker_pid": findFirecrackerPid,
  "priv.signal_process": signalProcess,
  "priv.kill_process": killProcess,
  "priv.cleanup_jailer_chroot": cleanupJailerChroot,
  "priv.release_vm": releaseVm,
  "priv.inventory": inventory,
  "priv.ping": ping,
};
