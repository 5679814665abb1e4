/** Inputs that the helper's schemas and gates accept. */

import type { HelperVerbName } from "../../src/shared/contract/helper-api.ts";

export const VM = "0123456789ab";
const vm = VM;
const bridge = { bridge: "br-fc", ip: "172.16.0.1", prefix: 24 };

/** One good input of every verb: a verb that is missing here does not compile. */
export const GOOD_INPUTS: Readonly<Record<HelperVerbName, Readonly<Record<string, unknown>>>> = {
  "priv.ensure_bridge": bridge,
  "priv.create_tap": { tap: "tap-pool-3", bridge: "br-fc", guest_ip: "172.16.0.3" },
  "priv.delete_tap": { tap: "tap-pool-3" },
  "priv.ensure_nat": { guest_ip: "172.16.0.2", tap: "tap-pool-3", enable: true },
  "priv.probe_nat": { guest_ip: "172.16.0.2", tap: "tap-pool-3" },
  "priv.sync_resolver_routing": { bridge: "br-fc", resolver: "127.0.0.1:5300" },
  "priv.clear_resolver_routing": { bridge: "br-fc" },
  "priv.create_dm_snapshot": { vm, image: "debian-trixie", root_bytes: 1024 ** 3 },
  "priv.remove_dm_snapshot": { vm, discard: false },
  "priv.resolve_firecracker_binary": {},
  "priv.launch_firecracker": {
    vm,
    kernel: "debian-trixie",
    initrd: true,
    root: "snapshot",
    tap: "tap-pool-3",
    vcpu: 2,
    memory_mib: 1024,
  },
  "priv.find_firecracker_pid": { vm },
  "priv.signal_process": { vm, signal: "SIGTERM" },
  "priv.kill_process": { vm },
  "priv.cleanup_jailer_chroot": { vm },
  "priv.release_vm": { vm },
  "priv.inventory": {},
  "priv.ping": {},
};
