/**
 * The system engine's VMM: Firecracker in the jail that the root helper made. The helper starts, finds, signals and ends
 * it; everything else is said over its API by the owner.
 */

import { BangerError } from "../../../shared/errors.ts";
import { JAIL } from "../../../shared/contract/helper-api.ts";
import type { VmId, VmSpec } from "../../../shared/contract/schemas.ts";
import type { Privileged } from "./privileged.ts";
import { type BridgeAddress, firecrackerBootArgs } from "../boot-args.ts";
import { type FirecrackerApi, openFirecrackerApi } from "./firecracker-api.ts";
import { isAlive } from "../../host/processes.ts";
import type { ProcessIdentity, Vmm } from "../vmm.ts";

/** Context id of every guest: each has a vsock socket of its own, so they need not differ. */
const GUEST_CID = 3;
/** What a guest may write to its serial console: a second's worth at once, then so much per second; the rest is dropped. */
const SERIAL_BYTES_PER_SECOND = 1024 * 1024;

export interface FirecrackerPlan {
  readonly id: VmId;
  readonly name: string;
  readonly spec: VmSpec;
  readonly hasInitrd: boolean;
  readonly tap: string;
  readonly mac: string;
  readonly network: BridgeAddress;
  /** Whether the host's own processor is emulated. */
  readonly isEmulated: boolean;
}

export interface FirecrackerRequest {
  readonly path: string;
  readonly body: unknown;
}

/** `1.16.1` as numbers that compare by position. @throws BangerError VMM_FAILED */
export function parseVersion(answer: unknown): readonly [major: number, minor: number, patch: number] {
  const text = (answer as { firecracker_version?: unknown } | null)?.firecracker_version;
  const parts = typeof text === "string" ? /^(\d{1,4})\.(\d{1,4})\.(\d{1,4})/.exec(text) : null;
  if (parts === null) throw new BangerError("VMM_FAILED", `Firecracker says its version is ${JSON.stringify(answer)}`);
  return [Number(parts[1]), Number(parts[2]), Number(parts[3])];
}

/** Everything that is put before the guest runs, in order, then its start. Newer fields only where this version has them. Pure. */
export function firecrackerRequests(
  plan: FirecrackerPlan,
  [major, minor]: readonly [number, number, number],
): readonly FirecrackerRequest[] {
  const since = (wanted: number): boolean => major > 1 || (major === 1 && minor >= wanted);
  const drive = (id: "root" | "work" | "identity", path: string): FirecrackerRequest => ({
    path: `/drives/${id}`,
    body: {
      drive_id: id,
      path_on_host: path,
      is_root_device: id === "root",
      is_read_only: id === "identity",
      // The default ignores flushes: what a guest was told is on disk would not be.
      cache_type: "Writeback",
      io_engine: "Sync",
    },
  });
  return [
    // Why a guest's processor stopped is of the level Info.
    { path: "/logger", body: { log_path: JAIL.vmmLog, level: "Info", show_level: true, show_log_origin: false } },
    { path: "/metrics", body: { metrics_path: JAIL.metrics } },
    ...(since(14)
      ? [
          {
            path: "/serial",
            body: {
              serial_out_path: JAIL.serialLog,
              ...(since(16) ? { rate_limiter: { size: SERIAL_BYTES_PER_SECOND, refill_time: 1000 } } : {}),
            },
          },
        ]
      : []),
    { path: "/machine-config", body: { vcpu_count: plan.spec.vcpu, mem_size_mib: plan.spec.memoryMiB, smt: false } },
    {
      path: "/boot-source",
      body: {
        kernel_image_path: JAIL.kernel,
        ...(plan.hasInitrd ? { initrd_path: JAIL.initrd } : {}),
        boot_args: firecrackerBootArgs(plan)
          .map(({ word }) => word)
          .join(" "),
      },
    },
    drive("root", JAIL.rootDrive),
    drive("work", JAIL.workDrive),
    drive("identity", JAIL.identityDrive),
    {
      path: "/network-interfaces/eth0",
      body: { iface_id: "eth0", host_dev_name: plan.tap, guest_mac: plan.mac },
    },
    { path: "/vsock", body: { guest_cid: GUEST_CID, uds_path: JAIL.vsockSocket } },
    { path: "/entropy", body: {} },
    { path: "/actions", body: { action_type: "InstanceStart" } },
  ];
}

/** Configures a Firecracker that was just launched, and starts its guest. @throws BangerError VMM_FAILED */
export async function bootGuest(api: FirecrackerApi, plan: FirecrackerPlan, signal: AbortSignal): Promise<void> {
  const version = parseVersion(await api.get("/version"));
  for (const { path, body } of firecrackerRequests(plan, version)) {
    signal.throwIfAborted();
    await api.put(path, body);
  }
}

export interface FirecrackerVmm extends Vmm {
  /** Remembers a process that the helper just named, so that looking after it needs no further question. */
  remember(id: VmId, process: ProcessIdentity): void;
}

export function createFirecrackerVmm(privileged: Privileged, jailRootOf: (id: VmId) => string): FirecrackerVmm {
  const known = new Map<VmId, ProcessIdentity>();

  async function find(id: VmId): Promise<readonly ProcessIdentity[]> {
    const remembered = known.get(id);
    if (remembered !== undefined && (await isAlive(remembered))) return [remembered];
    const { process } = await privileged.call("priv.find_firecracker_pid", { vm: id });
    if (process === null) {
      known.delete(id);
      return [];
    }
    const identity = { pid: process.pid, startTicks: process.start_ticks };
    known.set(id, identity);
    return [identity];
  }

  return {
    remember: (id, process) => {
      known.set(id, process);
    },
    find,
    signal: async (id, _runtimeDir, signal) => {
      const { sent } = await privileged.call("priv.signal_process", { vm: id, signal });
      return sent;
    },
    powerDown: async (id) => {
      try {
        using api = openFirecrackerApi(jailRootOf(id));
        await api.put("/actions", { action_type: "SendCtrlAltDel" });
        return true;
      } catch (thrown) {
        if (thrown instanceof BangerError && thrown.code === "VMM_FAILED") return false;
        throw thrown;
      }
    },
    destroy: async (id) => {
      await privileged.call("priv.kill_process", { vm: id });
      known.delete(id);
      await privileged.call("priv.cleanup_jailer_chroot", { vm: id });
    },
  };
}
