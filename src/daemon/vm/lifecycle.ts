/** What somebody asks to be done to a VM, each under its lock. */

import * as v from "valibot";
import { type ResolvedSpec, VmId, type VmRecord, type VmSpec } from "../../shared/contract/schemas.ts";
import { BangerError, toBangerError } from "../../shared/errors.ts";
import { growWorkDisk } from "../engine/disks/work-disk.ts";
import type { LifecycleEngine } from "../engine/engine.ts";
import { workDiskPath } from "../engine/steps/work-disk.ts";
import { waitUntilGone } from "../host/processes.ts";
import { writeHandles } from "../store/handles.ts";
import { generateName } from "./names.ts";
import { checkFits, resolveSpec, thisHost } from "./plan.ts";
import { REBOOTED, type Reboots } from "./reboots.ts";
import type { Run, VmParts, VmRecords } from "./records.ts";
import { NOT_RUNNING } from "./state-machine.ts";
import type { Transitions } from "./transitions.ts";

export class Lifecycle {
  readonly #parts: Omit<VmParts, "engine"> & { readonly engine: LifecycleEngine };
  readonly #records: VmRecords;
  readonly #transitions: Transitions;
  readonly #reboots: Reboots;

  constructor(parts: VmParts, records: VmRecords, transitions: Transitions, reboots: Reboots) {
    this.#parts = parts;
    this.#records = records;
    this.#transitions = transitions;
    this.#reboots = reboots;
  }

  /** What a create with these values makes on this host, as it is now. */
  resolveCreate(image: string | undefined, asked: Partial<VmSpec>): ResolvedSpec {
    const { config, engine, images } = this.#parts;
    const name = image ?? config.default_image;
    const { kind, reason } = engine.detectAcceleration();
    return {
      image: name,
      imagePresent: images.has(name),
      spec: resolveSpec(asked, config, thisHost()),
      acceleration: kind,
      accelerationReason: reason,
    };
  }

  async create(
    asked: {
      readonly name?: string | undefined;
      readonly image?: string | undefined;
      readonly kernel?: string | undefined;
      readonly spec: Partial<VmSpec>;
      readonly start: boolean;
    },
    run: Run,
  ): Promise<VmRecord> {
    const { images, vms, engine, runner, locks } = this.#parts;
    const isTaken = (name: string): boolean => vms.list().some((vm) => vm.name === name);
    if (asked.name !== undefined && isTaken(asked.name)) {
      throw new BangerError("ALREADY_EXISTS", `a VM named ${asked.name} already exists`, {
        hint: `banger vm show ${asked.name}`,
      });
    }
    const resolved = this.resolveCreate(asked.image, asked.spec);
    const { image: imageName, spec } = resolved;
    if (!images.isKnown(imageName))
      throw new BangerError("IMAGE_NOT_FOUND", `there is no image named ${imageName}, not even in the catalog`);
    // Before an image is built for it.
    checkFits({ name: asked.name ?? "a VM", engine: engine.name, spec }, "INVALID_VALUE");
    run.resolved?.(resolved);
    const image = await images.ensure(imageName, run);
    const files = await images.files(imageName, asked.kernel);
    run.signal.throwIfAborted();
    const now = new Date().toISOString();
    const vm: VmRecord = {
      id: v.parse(VmId, Buffer.from(crypto.getRandomValues(new Uint8Array(6))).toString("hex")),
      name: asked.name ?? generateName(isTaken),
      state: asked.start ? "starting" : "created",
      reason: null,
      image: imageName,
      kernel: asked.kernel ?? image.kernel ?? "",
      spec,
      engine: engine.name,
      ...NOT_RUNNING,
      ...engine.reserve?.(vms.list()),
      workspace: null,
      createdAt: now,
      touchedAt: now,
    };
    // In the turn in which its name and address were found free.
    vms.insert(vm);
    return await locks.run(vm.id, async () => {
      try {
        await this.#transitions.make(vm, files, run);
        if (!asked.start) await writeHandles(this.#records.dirs(vm.id).state, vm);
      } catch (thrown) {
        vms.remove(vm.id);
        throw thrown;
      }
      if (!asked.start) {
        runner.clear(vm.id, "create");
        return vm;
      }
      try {
        // The create stays in the journal until the guest answers: a crash before that undoes all of it.
        const started = await this.#transitions.boot(vm, files, run);
        runner.clear(vm.id, "create");
        return started;
      } catch (thrown) {
        const error = toBangerError(thrown);
        // Left up, or left to be looked at: its log says why.
        if (error.code === "GUEST_NOT_READY") {
          runner.clear(vm.id, "create");
          throw thrown;
        }
        await this.#transitions.discard(vm.id);
        throw withoutVm(error, vm);
      }
    });
  }

  async start(id: VmId, run: Run): Promise<VmRecord> {
    return await this.#parts.locks.run(id, async () => {
      const vm = this.#records.current(id);
      if (vm.state === "running") throw new BangerError("WRONG_STATE", `${vm.name} is already running`);
      this.#reboots.forget(id);
      return await this.#transitions.start(vm, run);
    });
  }

  async stop(id: VmId, run: Run): Promise<VmRecord> {
    return await this.#parts.locks.run(id, async () => {
      const vm = this.#records.current(id);
      // Between its guest's reboot and the start that would follow.
      if (vm.state === "stopped" && vm.reason === REBOOTED) return await this.#records.save({ ...vm, reason: null });
      if (vm.state !== "running" && vm.state !== "error")
        throw new BangerError("WRONG_STATE", `${vm.name} is ${vm.state}, not running`, {
          hint: `banger vm show ${vm.name}`,
        });
      return await this.#transitions.stop(vm, run);
    });
  }

  async restart(id: VmId, run: Run): Promise<VmRecord> {
    return await this.#parts.locks.run(id, async () => {
      const vm = this.#records.current(id);
      return await this.#transitions.start(vm.state === "running" ? await this.#transitions.stop(vm, run) : vm, run);
    });
  }

  async kill(id: VmId, signal: NodeJS.Signals): Promise<VmRecord> {
    return await this.#parts.locks.run(id, async () => {
      const { vmm } = this.#parts.engine;
      const vm = this.#records.current(id);
      const processes = await vmm.find(id, this.#records.dirs(id).runtime);
      if (processes.length === 0)
        throw new BangerError("WRONG_STATE", `${vm.name} has no VMM to signal`, { hint: `banger vm start ${vm.name}` });
      if (signal !== "SIGKILL") {
        await vmm.signal(id, this.#records.dirs(id).runtime, signal);
        // What ends on the signal is shown as stopped right away.
        await waitUntilGone(processes[0] ?? { pid: -1, startTicks: "" }, 1000);
        if ((await vmm.find(id, this.#records.dirs(id).runtime)).length > 0) return vm;
      }
      return await this.#transitions.settle(vm, signal === "SIGKILL" ? null : `the VMM ended on ${signal}`);
    });
  }

  async delete(id: VmId): Promise<VmRecord> {
    return await this.#parts.locks.run(id, async () => {
      // Whatever its record is like.
      const vm = this.#parts.vms.get(id);
      if (vm === null) throw new BangerError("VM_NOT_FOUND", `the VM ${id} was deleted in the meantime`);
      await this.#transitions.remove(vm);
      await this.#parts.engine.afterDelete?.();
      return { ...vm, ...NOT_RUNNING, state: "stopped" as const };
    });
  }

  async set(id: VmId, changes: Partial<VmSpec>): Promise<VmRecord> {
    return await this.#parts.locks.run(id, async () => {
      const vm = this.#records.current(id);
      const { engine } = this.#parts;
      if (vm.state === "running" && engine.setNat !== undefined && Object.keys(changes).every((key) => key === "nat")) {
        const nat = changes.nat ?? vm.spec.nat;
        // What the record wants is what a crash in between ends in.
        const saved = await this.#records.save({ ...vm, spec: { ...vm.spec, nat } });
        await engine.setNat(saved, nat);
        return saved;
      }
      if (vm.state !== "stopped" && vm.state !== "created") {
        throw new BangerError("WRONG_STATE", `${vm.name} is ${vm.state}, but only a stopped VM can be changed`, {
          hint: `banger vm stop ${vm.name}`,
        });
      }
      const spec = { ...vm.spec, ...changes };
      checkFits({ ...vm, spec }, "INVALID_VALUE");
      const dirs = this.#records.dirs(id);
      const grow = async (
        key: "diskBytes" | "systemOverlayBytes",
        work: (bytes: number, signal: AbortSignal) => Promise<void>,
      ): Promise<void> => {
        const bytes = changes[key];
        if (bytes === undefined || bytes === vm.spec[key]) return;
        if (bytes < vm.spec[key])
          throw new BangerError("INVALID_VALUE", `a disk can't shrink, and ${vm.name}'s has ${vm.spec[key]} bytes`);
        await work(bytes, new AbortController().signal);
      };
      await grow("diskBytes", async (bytes) => await growWorkDisk(workDiskPath(dirs.state), bytes));
      await grow("systemOverlayBytes", async (bytes, signal) => await engine.growRoot(dirs, bytes, signal));
      return await this.#records.save({ ...vm, spec });
    });
  }
}

/** An error about a VM that was undone. No command works on it any more, so the hint names none that would. */
export function withoutVm(error: BangerError, { id, name }: Pick<VmRecord, "id" | "name">): BangerError {
  const words = error.hint?.split(" ") ?? [];
  if (!words.includes(name) && !words.includes(id)) return error;
  const { hint: _, ...rest } = error.toDocument();
  return new BangerError(error.code, error.message, { ...rest, hint: "banger daemon logs -n 20", cause: error.cause });
}
