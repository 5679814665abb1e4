/** Below everything that changes or asks about VMs: their records as they are kept, and where a VM's things are. */

import { join } from "node:path";
import type { Config } from "../../shared/config.ts";
import type { Progress } from "../../shared/contract/owner-api.ts";
import type { ResolvedSpec, VmId, VmRecord } from "../../shared/contract/schemas.ts";
import { BangerError } from "../../shared/errors.ts";
import type { Locks } from "../../shared/locks.ts";
import type { Paths } from "../../shared/places/paths.ts";
import type { Engine } from "../engine/engine.ts";
import type { GuestAccess, VmDirs } from "../engine/guest-access.ts";
import type { Runner } from "../engine/runner.ts";
import type { Guest, GuestAddress } from "../guest/guest.ts";
import type { ImageStore } from "../image/store.ts";
import type { Log } from "../log.ts";
import type { ForwardTable } from "../store/forwards.ts";
import { writeHandles } from "../store/handles.ts";
import type { JournalTable } from "../store/journal.ts";
import type { VmTable } from "../store/vms.ts";

/** What the daemon puts together once, and the parts of a VM's life work with. */
export interface VmParts {
  readonly paths: Paths;
  readonly config: Config;
  readonly log: Log;
  readonly vms: VmTable;
  readonly journal: JournalTable;
  readonly forwards: ForwardTable;
  readonly images: ImageStore;
  readonly engine: Engine;
  readonly guest: Guest;
  readonly runner: Runner;
  readonly locks: Locks;
}

/** Who waits for a change: how to cancel it, and where to tell how it goes. */
export interface Run {
  readonly signal: AbortSignal;
  progress(progress: Progress): void;
  /** Told once by a create, before it makes anything. */
  resolved?(resolved: ResolvedSpec): void;
}

export class VmRecords {
  readonly #parts: Pick<VmParts, "paths" | "vms"> & { readonly engine: GuestAccess };

  constructor(parts: Pick<VmParts, "paths" | "vms" | "engine">) {
    this.#parts = parts;
  }

  dirs(id: string): VmDirs {
    const { paths } = this.#parts;
    return { state: join(paths.vmsDir, id), runtime: join(paths.runtimeDir, "vms", id) };
  }

  /** Where the VM's guest is; null when it doesn't run. */
  addressOf(vm: VmRecord): GuestAddress | null {
    return this.#parts.engine.guestAddress(vm, this.dirs(vm.id));
  }

  /** The row and, beside the disks, the same once more. */
  async save(vm: VmRecord): Promise<VmRecord> {
    await writeHandles(this.dirs(vm.id).state, vm);
    this.#parts.vms.update(vm);
    return vm;
  }

  /** @throws BangerError VM_NOT_FOUND, and WRONG_STATE for a VM whose record is damaged: it can only be deleted */
  current(id: VmId): VmRecord {
    const read = this.#parts.vms.read(id);
    if (read === null) throw new BangerError("VM_NOT_FOUND", `the VM ${id} was deleted in the meantime`);
    if (read.flaw === null) return read.record;
    const { name } = read.record;
    throw new BangerError("WRONG_STATE", `the record of ${name} is damaged: ${read.flaw}`, {
      details: { disks: this.dirs(id).state },
      hint: `banger vm delete ${name}`,
    });
  }
}
