/** Questions about VMs: which one is meant, how to reach its guest, what it uses. */

import { readdir, stat } from "node:fs/promises";
import { join } from "node:path";
import type { VmRecord, VmStats, WayIn } from "../../shared/contract/schemas.ts";
import { BangerError } from "../../shared/errors.ts";
import type { HostEngine } from "../engine/engine.ts";
import type { GuestAccess } from "../engine/guest-access.ts";
import type { AgentWatch } from "../guest/agent/watch.ts";
import type { GuestAddress } from "../guest/guest.ts";
import { openForUse } from "../guest/ssh/open.ts";
import type { CpuMeter } from "../host/cpu-meter.ts";
import { readUsage } from "../host/processes.ts";
import type { VmParts, VmRecords } from "./records.ts";

export class Queries {
  readonly #parts: Pick<VmParts, "vms" | "guest"> & { readonly engine: GuestAccess & HostEngine };
  readonly #records: VmRecords;
  readonly #cpu: CpuMeter;
  readonly #agents: AgentWatch;

  constructor(
    parts: Pick<VmParts, "vms" | "guest" | "engine">,
    records: VmRecords,
    { cpu, agents }: { readonly cpu: CpuMeter; readonly agents: AgentWatch },
  ) {
    this.#parts = parts;
    this.#records = records;
    this.#cpu = cpu;
    this.#agents = agents;
  }

  /** The VM of a name, id or unambiguous id prefix. @throws BangerError VM_NOT_FOUND, AMBIGUOUS */
  resolve(ref: string, all: readonly VmRecord[] = this.#parts.vms.list()): VmRecord {
    const exact = all.find(({ name, id }) => name === ref || id === ref);
    if (exact !== undefined) return exact;
    const byPrefix = /^[0-9a-f]+$/.test(ref) ? all.filter(({ id }) => id.startsWith(ref)) : [];
    if (byPrefix.length > 1)
      throw new BangerError("AMBIGUOUS", `${ref} matches ${byPrefix.map(({ name }) => name).join(", ")}`);
    const [only] = byPrefix;
    if (only === undefined) throw new BangerError("VM_NOT_FOUND", `there is no VM ${ref}`);
    return only;
  }

  /**
   * The guest of a running VM; counts as use. Unless its agent answers and is one of the `ways` that will do, the control connection is
   * open then. @throws BangerError WRONG_STATE, GUEST_NOT_READY
   */
  async reach(vm: VmRecord, ways: readonly WayIn["kind"][]): Promise<GuestAddress> {
    const address = this.#records.addressOf(vm);
    if (vm.state !== "running" || address === null) {
      const why = vm.state === "error" && vm.reason !== null ? `: ${vm.reason}` : "";
      throw new BangerError("WRONG_STATE", `${vm.name} is ${vm.state}${why}`, {
        details: { state: vm.state },
        hint:
          vm.state === "stopped" || vm.state === "created" ? `banger vm start ${vm.name}` : `banger vm show ${vm.name}`,
      });
    }
    if (!ways.includes("agent") || !address.hasAgent) {
      // Whoever wants ssh to a guest with an agent may have found it silent.
      this.#agents.lookSoon(vm);
      if (!ways.includes("ssh"))
        throw new BangerError("GUEST_NOT_READY", `${vm.name} has no agent that answers, only ssh`, {
          hint: `banger vm show ${vm.name}`,
        });
      await openForUse(this.#parts.guest, address, vm, this.#parts.engine.deadlines(vm.acceleration ?? "tcg").readyMs);
    }
    const now = new Date();
    // Use is recorded by the minute: a row written for every exec would cost more than the exec.
    if (now.getTime() - Date.parse(vm.touchedAt) > 60_000)
      this.#parts.vms.update({ ...this.#records.current(vm.id), touchedAt: now.toISOString() });
    return address;
  }

  async stats(vm: VmRecord): Promise<VmStats> {
    const dirs = this.#records.dirs(vm.id);
    const usage = vm.pid === null ? null : await readUsage(vm.pid);
    const cpuPercent = usage === null ? 0 : this.#cpu.percent(vm.id, usage.cpu);
    let diskBytes = (await this.#parts.engine.extraDiskBytes?.(vm.id)) ?? 0;
    for (const name of await readdir(dirs.state).catch(() => []))
      diskBytes += ((await stat(join(dirs.state, name)).catch(() => null))?.blocks ?? 0) * 512;
    const counters =
      vm.state === "running"
        ? await this.reach(vm, ["agent", "ssh"]).then(
            (address) => this.#parts.guest.readCounters(address),
            () => null,
          )
        : null;
    return {
      id: vm.id,
      name: vm.name,
      cpuPercent: Math.round(cpuPercent * 10) / 10,
      memoryBytes: usage?.residentBytes ?? 0,
      diskBytes,
      rxBytes: counters?.rxBytes ?? null,
      txBytes: counters?.txBytes ?? null,
    };
  }
}
