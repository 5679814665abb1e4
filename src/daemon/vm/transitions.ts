/** From one state to the next, with what that does to the host. Whoever calls holds the VM's lock. */

import type { VmId, VmRecord } from "../../shared/contract/schemas.ts";
import { type BangerError, toBangerError } from "../../shared/errors.ts";
import type { LifecycleEngine } from "../engine/engine.ts";
import { undoSteps } from "../engine/runner.ts";
import type { RecordPatch, StepContext, UndoContext } from "../engine/step.ts";
import { waitUntilGone } from "../host/processes.ts";
import { checkFits } from "./plan.ts";
import type { Run, VmParts, VmRecords } from "./records.ts";
import { become, NOT_RUNNING } from "./state-machine.ts";

const SHUT_DOWN_MS = 10_000;

export class Transitions {
  readonly #parts: Omit<VmParts, "engine"> & { readonly engine: LifecycleEngine };
  readonly #records: VmRecords;
  /** Told when a VM is gone for good. */
  readonly #forget: (id: VmId) => void;

  constructor(parts: VmParts, records: VmRecords, forget: (id: VmId) => void) {
    this.#parts = parts;
    this.#records = records;
    this.#forget = forget;
  }

  #undoContext(id: VmId): UndoContext {
    const { guest, paths } = this.#parts;
    return { id, dirs: this.#records.dirs(id), guest, paths };
  }

  #stepContext(vm: VmRecord, image: StepContext["image"], run: Run): StepContext {
    const { engine, config } = this.#parts;
    return {
      ...this.#undoContext(vm.id),
      engine,
      vm,
      config,
      image,
      acceleration: engine.requireAcceleration(),
      signal: run.signal,
      progress: run.progress,
    };
  }

  /** Makes what a VM has until it is deleted. The create stays in the journal. */
  async make(vm: VmRecord, files: StepContext["image"], run: Run): Promise<void> {
    const { runner, engine } = this.#parts;
    await runner.run("create", engine.createSteps, this.#stepContext(vm, files, run));
  }

  async start(before: VmRecord, run: Run): Promise<VmRecord> {
    const { images, engine, vms } = this.#parts;
    checkFits(before, "HOST_UNSUPPORTED");
    const others = vms.list().filter(({ id }) => id !== before.id);
    const starting = await this.#records.save(
      become(before, "starting", { ...NOT_RUNNING, ...engine.reserve?.(others, before) }),
    );
    let files: StepContext["image"];
    try {
      files = await images.files(before.image, before.kernel === "" ? undefined : before.kernel);
      engine.requireAcceleration();
    } catch (thrown) {
      await this.#records.save(become(starting, "stopped", { reason: toBangerError(thrown).message }));
      throw thrown;
    }
    return await this.boot(starting, files, run);
  }

  /** From a VM recorded as starting to one that runs, or to a record that says why it doesn't. */
  async boot(starting: VmRecord, files: StepContext["image"], run: Run): Promise<VmRecord> {
    const { runner, forwards, engine, log } = this.#parts;
    const { id } = starting;
    let context = this.#stepContext(starting, files, run);
    const running = (changes: Partial<VmRecord>): VmRecord => {
      const now = new Date().toISOString();
      return become(starting, "running", {
        acceleration: context.acceleration,
        startedAt: now,
        touchedAt: now,
        ...changes,
      });
    };
    /** What the first attempt ended with, when it is worth another one: all of it is undone then. */
    let emulatorFault: unknown = null;
    let leftUp: RecordPatch = {};
    const isLeftUp = (cause: unknown, patch: RecordPatch): boolean => {
      const error = toBangerError(cause);
      if (error.code !== "GUEST_NOT_READY") return false;
      const isFault = context.acceleration === "tcg" && error.details?.["lost"] === "before init";
      if (emulatorFault !== null || !isFault) {
        leftUp = patch;
        return true;
      }
      emulatorFault = cause;
      return false;
    };
    let patch: RecordPatch;
    try {
      forwards.clear(id);
      patch = await runner.run("start", engine.startSteps, context, isLeftUp).catch(async (thrown: unknown) => {
        if (emulatorFault === null || thrown !== emulatorFault) throw thrown;
        log.warn("the guest's kernel panicked or hung before its init ran, under emulation: started once more", {
          vm: id,
          console: (thrown as BangerError).details?.["console"],
        });
        context = this.#stepContext(starting, files, run);
        return await runner.run("start", engine.startSteps, context, isLeftUp);
      });
    } catch (thrown) {
      const error = toBangerError(thrown);
      const after =
        error.code === "GUEST_NOT_READY"
          ? // An agent that only was too slow is found by the patrol.
            running({ ...leftUp, agent: files.hasAgent ? "silent" : null, reason: "the guest never answered" })
          : become(starting, "stopped", {
              ...NOT_RUNNING,
              reason: error.code === "CANCELLED" ? "the start was cancelled" : (error.message.split("\n")[0] ?? null),
            });
      await this.#records.save(after);
      runner.clear(id, "start");
      throw thrown;
    }
    const vm = await this.#records.save(running(patch));
    runner.clear(vm.id, "start");
    return vm;
  }

  /** Power off by the guest itself, then by its power button, then by ending the VMM; then the undos of the start. */
  async stop(before: VmRecord, run: Pick<Run, "progress">): Promise<VmRecord> {
    const { runner, engine, guest } = this.#parts;
    const vm = await this.#records.save(become(before, "stopping"));
    const dirs = this.#records.dirs(vm.id);
    const { powerOffMs } = engine.deadlines(vm.acceleration ?? "tcg");
    let position = 0;
    const step = async (name: string, work: () => Promise<void>): Promise<void> => {
      await runner.journaled(vm.id, "stop", position++, name, work);
    };
    run.progress({ stage: "stop", message: `Stopping ${vm.name}` });
    await step("guest-poweroff", async () => {
      // Before anybody asks: a guest may be gone in no time.
      const processes = await engine.vmm.find(vm.id, dirs.runtime);
      const address = this.#records.addressOf(vm);
      const asked = address !== null && (await guest.shutDown(address, engine.shutdownWord, SHUT_DOWN_MS));
      if (!asked && !(await engine.vmm.powerDown(vm.id, dirs.runtime))) return;
      await Promise.all(processes.map((identity) => waitUntilGone(identity, powerOffMs)));
    });
    for (const start of engine.startSteps.toReversed())
      await step(`undo ${start.name}`, async () => await start.undo(this.#undoContext(vm.id)));
    const stopped = await this.#records.save(become(vm, "stopped", NOT_RUNNING));
    runner.clear(vm.id, "stop");
    return stopped;
  }

  /** The VMM is gone, or must go: the undos of the start, and the state that is then true. */
  async settle(vm: VmRecord, reason: string | null): Promise<VmRecord> {
    const { engine, runner } = this.#parts;
    await undoSteps(engine.startSteps, this.#undoContext(vm.id));
    const stopped = await this.#records.save({ ...vm, ...NOT_RUNNING, state: "stopped", reason });
    runner.clear(vm.id, "start");
    runner.clear(vm.id, "stop");
    return stopped;
  }

  /** Takes back everything a VM ever was: a create that came to nothing. */
  async discard(id: VmId): Promise<void> {
    const { createSteps, startSteps } = this.#parts.engine;
    await undoSteps([...createSteps, ...startSteps], this.#undoContext(id));
    this.#drop(id);
  }

  /** The same for a VM that was wanted until now: each undo stands in the journal, so that a crash ends in the rest of them. */
  async remove({ id }: Pick<VmRecord, "id">): Promise<void> {
    const { runner, engine } = this.#parts;
    const context = this.#undoContext(id);
    let position = 0;
    for (const step of [...engine.createSteps, ...engine.startSteps].toReversed()) {
      await runner.journaled(id, "delete", position++, `undo ${step.name}`, async () => await step.undo(context));
    }
    this.#drop(id);
  }

  #drop(id: VmId): void {
    this.#parts.vms.remove(id);
    this.#parts.journal.clearVm(id);
    this.#forget(id);
  }
}
