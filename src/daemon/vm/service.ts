/** VMs: resolving names, the operations on one, and the same on many. */

import { readdir, stat } from "node:fs/promises";
import { cpus, totalmem } from "node:os";
import { dirname, join } from "node:path";
import type { Config } from "../../shared/config.ts";
import type { Progress } from "../../shared/contract/owner-api.ts";
import { BangerError, type ErrorDocument, toBangerError } from "../../shared/errors.ts";
import type { Paths } from "../../shared/places/paths.ts";
import { ensurePrivateDirectory } from "../../shared/places/private-directory.ts";
import { type ResolvedSpec, VmId, type VmRecord, type VmSpec, type VmStats } from "../../shared/contract/schemas.ts";
import * as v from "valibot";
import { growWorkDisk } from "../engine/disks/work-disk.ts";
import type { Guest, GuestAddress } from "../guest/ssh/guest.ts";
import { readTail } from "../guest/ready.ts";
import type { ImageStore } from "../image/store.ts";
import type { Locks } from "../../shared/locks.ts";
import type { Log } from "../log.ts";
import type { ForwardTable } from "../store/forwards.ts";
import type { JournalOperation, JournalTable } from "../store/journal.ts";
import type { VmTable } from "../store/vms.ts";
import { CpuMeter } from "../host/cpu-meter.ts";
import { readUsage, waitUntilGone } from "../host/processes.ts";
import type { Engine } from "../engine/engine.ts";
import { findLeftovers, removeLeftovers } from "./gc.ts";
import { readHandles, writeHandles } from "../store/handles.ts";
import { generateName } from "./names.ts";
import { type HostSize, resolveSpec, whyUnfit } from "./plan.ts";
import { isReboot, LAST_WORDS_BYTES } from "../guest/last-words.ts";
import { Reboots } from "./reboots.ts";
import { type Runner, undoSteps } from "../engine/runner.ts";
import { withoutVm } from "./gone.ts";
import { become, NOT_RUNNING } from "./state-machine.ts";
import type { VmDirs } from "../engine/guest-access.ts";
import type { StepContext, UndoContext } from "../engine/step.ts";
import { workDiskPath } from "../engine/steps/work-disk.ts";

const DIAL_MS = 2000;
/** The reason of a VM between its guest's reboot and the start that follows. */
const REBOOTED = "the guest rebooted";

const thisHost = (): HostSize => ({ cpus: cpus().length, memoryMiB: totalmem() / 1024 ** 2 });

export interface Run {
  readonly signal: AbortSignal;
  progress(progress: Progress): void;
  /** Told once by a create, before it makes anything. */
  resolved?(resolved: ResolvedSpec): void;
}

export interface ManyItem {
  readonly ref: string;
  readonly vm: VmRecord | null;
  readonly error: ErrorDocument | null;
}

export interface ServiceParts {
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

export class VmService {
  readonly parts: ServiceParts;
  /** VMs that the last reconcile could not look at, with what was under way of each. */
  readonly #unseen = new Map<VmId, ReadonlySet<JournalOperation>>();
  readonly #cpu = new CpuMeter();
  readonly #reboots = new Reboots();
  readonly #background = new Set<Promise<void>>();
  readonly #ending = new AbortController();

  constructor(parts: ServiceParts) {
    this.parts = parts;
  }

  dirs(id: string): VmDirs {
    const { paths } = this.parts;
    return { state: join(paths.vmsDir, id), runtime: join(paths.runtimeDir, "vms", id) };
  }

  undoContext(id: VmId): UndoContext {
    const { guest, paths } = this.parts;
    return { id, dirs: this.dirs(id), guest, paths };
  }

  /** The VM of a name, id or unambiguous id prefix. @throws BangerError VM_NOT_FOUND, AMBIGUOUS */
  resolve(ref: string, all: readonly VmRecord[] = this.parts.vms.list()): VmRecord {
    const exact = all.find(({ name, id }) => name === ref || id === ref);
    if (exact !== undefined) return exact;
    const byPrefix = /^[0-9a-f]+$/.test(ref) ? all.filter(({ id }) => id.startsWith(ref)) : [];
    if (byPrefix.length > 1)
      throw new BangerError("AMBIGUOUS", `${ref} fits ${byPrefix.map(({ name }) => name).join(", ")}`);
    const [only] = byPrefix;
    if (only === undefined) throw new BangerError("VM_NOT_FOUND", `there is no VM ${ref}`);
    return only;
  }

  /** The row and, beside the disks, the same once more. */
  async #save(vm: VmRecord): Promise<VmRecord> {
    await writeHandles(this.dirs(vm.id).state, vm);
    this.parts.vms.update(vm);
    return vm;
  }

  /** @throws BangerError VM_NOT_FOUND, and WRONG_STATE for a VM whose record is damaged: it can only be deleted */
  #current(id: VmId): VmRecord {
    const read = this.parts.vms.read(id);
    if (read === null) throw new BangerError("VM_NOT_FOUND", `the VM ${id} was deleted meanwhile`);
    if (read.flaw === null) return read.record;
    const { name } = read.record;
    throw new BangerError("WRONG_STATE", `the record of ${name} is damaged: ${read.flaw}`, {
      details: { disks: this.dirs(id).state },
      hint: `banger vm delete ${name}`,
    });
  }

  /** What a create with these values makes on this host, as it is now. */
  resolveCreate(image: string | undefined, asked: Partial<VmSpec>): ResolvedSpec {
    const { config, engine, images } = this.parts;
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

  /** @throws BangerError with that code when this host could never run the VM */
  #checkFits(vm: Pick<VmRecord, "name" | "engine" | "spec">, code: "INVALID_VALUE" | "HOST_UNSUPPORTED"): void {
    const why = whyUnfit(vm, thisHost());
    if (why === null) return;
    throw new BangerError(code, why, code === "INVALID_VALUE" ? {} : { hint: `banger vm set ${vm.name} --help` });
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
    const { images, vms, engine, runner, locks } = this.parts;
    const isTaken = (name: string): boolean => vms.list().some((vm) => vm.name === name);
    if (asked.name !== undefined && isTaken(asked.name)) {
      throw new BangerError("ALREADY_EXISTS", `a VM named ${asked.name} exists already`, {
        hint: `banger vm show ${asked.name}`,
      });
    }
    const resolved = this.resolveCreate(asked.image, asked.spec);
    const { image: imageName, spec } = resolved;
    if (!images.isKnown(imageName))
      throw new BangerError("IMAGE_NOT_FOUND", `there is no image named ${imageName}, and the catalog can't build one`);
    // Before an image is built for it.
    this.#checkFits({ name: asked.name ?? "a VM", engine: engine.name, spec }, "INVALID_VALUE");
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
        await runner.run("create", engine.createSteps, this.#stepContext(vm, files, run));
        if (!asked.start) await writeHandles(this.dirs(vm.id).state, vm);
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
        const started = await this.#boot(vm, files, run);
        runner.clear(vm.id, "create");
        return started;
      } catch (thrown) {
        const error = toBangerError(thrown);
        // Left up, or left to be looked at: its log says why.
        if (error.code === "GUEST_NOT_READY") {
          runner.clear(vm.id, "create");
          throw thrown;
        }
        await this.#discard(vm.id);
        throw withoutVm(error, vm);
      }
    });
  }

  #stepContext(vm: VmRecord, image: StepContext["image"], run: Run): StepContext {
    return {
      ...this.undoContext(vm.id),
      vm,
      engine: this.parts.engine,
      config: this.parts.config,
      image,
      acceleration: this.parts.engine.requireAcceleration(),
      signal: run.signal,
      progress: run.progress,
      outputs: {},
    };
  }

  /** Takes back everything a VM ever was. For a failed create, and the last part of delete. */
  async #discard(id: VmId): Promise<void> {
    const { createSteps, startSteps } = this.parts.engine;
    await undoSteps([...createSteps, ...startSteps], this.undoContext(id));
    this.parts.vms.remove(id);
    this.parts.journal.clearVm(id);
    this.#cpu.forget(id);
    this.#reboots.forget(id);
  }

  async #start(before: VmRecord, run: Run): Promise<VmRecord> {
    const { images, engine, vms } = this.parts;
    this.#checkFits(before, "HOST_UNSUPPORTED");
    const others = vms.list().filter(({ id }) => id !== before.id);
    const starting = await this.#save(
      become(before, "starting", { ...NOT_RUNNING, ...engine.reserve?.(others, before) }),
    );
    let files: StepContext["image"];
    try {
      files = await images.files(before.image, before.kernel === "" ? undefined : before.kernel);
      engine.requireAcceleration();
    } catch (thrown) {
      await this.#save(become(starting, "stopped", { reason: toBangerError(thrown).message }));
      throw thrown;
    }
    return await this.#boot(starting, files, run);
  }

  /** From a VM recorded as starting to one that runs, or to a record that says why it doesn't. */
  async #boot(starting: VmRecord, files: StepContext["image"], run: Run): Promise<VmRecord> {
    const { runner, forwards, engine, log } = this.parts;
    const { id } = starting;
    let context = this.#stepContext(starting, files, run);
    const running = (changes: Partial<VmRecord>): VmRecord => {
      const { launched } = context.outputs;
      const now = new Date().toISOString();
      return become(starting, "running", {
        acceleration: context.acceleration,
        pid: launched?.process.pid ?? null,
        address: launched === undefined ? null : `${launched.sshHost}:${launched.sshPort}`,
        startedAt: now,
        touchedAt: now,
        ...changes,
      });
    };
    /** What the first attempt ended with, when it is worth another one: all of it is undone then. */
    let emulatorFault: unknown = null;
    const isLeftUp = (cause: unknown): boolean => {
      const error = toBangerError(cause);
      if (error.code !== "GUEST_NOT_READY") return false;
      const isFault = context.acceleration === "tcg" && error.details?.["panic"] === "before init";
      if (emulatorFault !== null || !isFault) return true;
      emulatorFault = cause;
      return false;
    };
    try {
      forwards.clear(id);
      await runner.run("start", engine.startSteps, context, isLeftUp).catch(async (thrown: unknown) => {
        if (emulatorFault === null || thrown !== emulatorFault) throw thrown;
        log.warn("the guest's kernel panicked before its init ran, under emulation: started once more", {
          vm: id,
          console: (thrown as BangerError).details?.["console"],
        });
        context = this.#stepContext(starting, files, run);
        await runner.run("start", engine.startSteps, context, isLeftUp);
      });
    } catch (thrown) {
      const error = toBangerError(thrown);
      const after =
        error.code === "GUEST_NOT_READY"
          ? running({ reason: "the guest never answered" })
          : become(starting, "stopped", {
              ...NOT_RUNNING,
              reason: error.code === "CANCELLED" ? "the start was cancelled" : (error.message.split("\n")[0] ?? null),
            });
      await this.#save(after);
      runner.clear(id, "start");
      throw thrown;
    }
    const vm = await this.#save(running({ bootId: context.outputs.bootId ?? null }));
    runner.clear(vm.id, "start");
    return vm;
  }

  async start(id: VmId, run: Run): Promise<VmRecord> {
    return await this.parts.locks.run(id, async () => {
      const vm = this.#current(id);
      if (vm.state === "running") throw new BangerError("WRONG_STATE", `${vm.name} is running already`);
      this.#reboots.forget(id);
      return await this.#start(vm, run);
    });
  }

  async stop(id: VmId, run: Run): Promise<VmRecord> {
    return await this.parts.locks.run(id, async () => {
      const vm = this.#current(id);
      // Between its guest's reboot and the start that would follow.
      if (vm.state === "stopped" && vm.reason === REBOOTED) return await this.#save({ ...vm, reason: null });
      if (vm.state !== "running" && vm.state !== "error")
        throw new BangerError("WRONG_STATE", `${vm.name} is ${vm.state}, not running`, {
          hint: `banger vm show ${vm.name}`,
        });
      return await this.#stop(vm, run);
    });
  }

  /** Power off by the guest itself, then by its power button, then by ending the VMM; then the undos of the start. */
  async #stop(before: VmRecord, run: Pick<Run, "progress">): Promise<VmRecord> {
    const { runner, engine, guest } = this.parts;
    const vm = await this.#save(become(before, "stopping"));
    const dirs = this.dirs(vm.id);
    const { powerOffMs } = engine.deadlines(vm.acceleration ?? "tcg");
    let position = 0;
    const step = async (name: string, work: () => Promise<void>): Promise<void> => {
      await runner.journaled(vm.id, "stop", position++, name, work);
    };
    run.progress({ stage: "stop", message: `stopping ${vm.name}` });
    await step("guest-poweroff", async () => {
      // Before anybody asks: a guest may be gone in no time.
      const processes = await engine.vmm.find(vm.id, dirs.runtime);
      const address = this.#address(vm);
      const asked =
        address !== null &&
        (await guest.answers(address, DIAL_MS)) &&
        (await guest.shutDown(address, engine.shutdownWord, 10_000));
      if (!asked && !(await engine.vmm.powerDown(vm.id, dirs.runtime))) return;
      await Promise.all(processes.map((identity) => waitUntilGone(identity, powerOffMs)));
    });
    for (const start of engine.startSteps.toReversed())
      await step(`undo ${start.name}`, async () => await start.undo(this.undoContext(vm.id)));
    const stopped = await this.#save(become(vm, "stopped", NOT_RUNNING));
    runner.clear(vm.id, "stop");
    return stopped;
  }

  async restart(id: VmId, run: Run): Promise<VmRecord> {
    return await this.parts.locks.run(id, async () => {
      const vm = this.#current(id);
      return await this.#start(vm.state === "running" ? await this.#stop(vm, run) : vm, run);
    });
  }

  async kill(id: VmId, signal: NodeJS.Signals): Promise<VmRecord> {
    return await this.parts.locks.run(id, async () => {
      const { vmm } = this.parts.engine;
      const vm = this.#current(id);
      const processes = await vmm.find(id, this.dirs(id).runtime);
      if (processes.length === 0)
        throw new BangerError("WRONG_STATE", `${vm.name} has no VMM to signal`, { hint: `banger vm start ${vm.name}` });
      if (signal !== "SIGKILL") {
        await vmm.signal(id, this.dirs(id).runtime, signal);
        // What ends on the signal is shown as stopped right away.
        await waitUntilGone(processes[0] ?? { pid: -1, startTicks: "" }, 1000);
        if ((await vmm.find(id, this.dirs(id).runtime)).length > 0) return vm;
      }
      return await this.#settle(vm, signal === "SIGKILL" ? null : `the VMM ended on ${signal}`);
    });
  }

  /** The VMM is gone, or must go: the undos of the start, and the state that is then true. */
  async #settle(vm: VmRecord, reason: string | null): Promise<VmRecord> {
    await undoSteps(this.parts.engine.startSteps, this.undoContext(vm.id));
    const stopped = await this.#save({ ...vm, ...NOT_RUNNING, state: "stopped", reason });
    this.parts.runner.clear(vm.id, "start");
    this.parts.runner.clear(vm.id, "stop");
    return stopped;
  }

  /** The VMM ended and nobody asked it to: settled, and started again when the guest's last words were that it reboots. */
  async #settleEnded(vm: VmRecord, otherwise: string): Promise<void> {
    const { engine, log } = this.parts;
    const lastWords = await (async () => {
      using serial = engine.openLog(vm.id, this.dirs(vm.id), "serial");
      return serial === null ? "" : await readTail(serial.path, LAST_WORDS_BYTES);
    })();
    if (!isReboot(lastWords)) {
      await this.#settle(vm, otherwise);
      return;
    }
    const upMs = Date.now() - Date.parse(vm.startedAt ?? vm.createdAt);
    if (!this.#reboots.allow(vm.id, upMs)) {
      log.warn("the guest reboots again and again, and is not started any more", { vm: vm.id });
      await this.#settle(vm, "the guest rebooted again and again, each time soon after its start");
      return;
    }
    await this.#settle(vm, REBOOTED);
    log.info("the guest rebooted, and is started again", { vm: vm.id, upMs });
    this.#inBackground(vm.id, async (run) => await this.#startAgain(vm.id, run));
  }

  /** The start after a reboot, with the forwards that there were. */
  async #startAgain(id: VmId, run: Run): Promise<void> {
    const { forwards, guest, log, vms } = this.parts;
    const vm = vms.get(id);
    // Somebody may have come first.
    if (vm === null || vm.state !== "stopped" || vm.reason !== REBOOTED) return;
    const before = forwards.list(id);
    let address: GuestAddress | null;
    try {
      address = this.#address(await this.#start(vm, run));
    } catch (thrown) {
      const left = vms.get(id);
      // The daemon ends: the next one goes on.
      if (run.signal.aborted && left?.state === "stopped") await this.#save({ ...left, reason: REBOOTED });
      throw thrown;
    }
    for (const { hostPort, guestPort } of before) {
      try {
        if (address === null) break;
        await guest.addForward(address, hostPort, guestPort);
        forwards.add({ vm: id, hostPort, guestPort });
      } catch (thrown) {
        log.warn("a forward is gone with the reboot", { vm: id, hostPort, error: toBangerError(thrown).message });
      }
    }
  }

  /** Work on a VM that nobody waits for, under its lock. The daemon's end cancels it and waits until it is undone. */
  #inBackground(id: VmId, work: (run: Run) => Promise<void>): void {
    const { locks, log } = this.parts;
    const { signal } = this.#ending;
    const done: Promise<void> = locks
      .run(id, async () => {
        if (!signal.aborted) await work({ signal, progress: () => undefined });
      })
      .catch((thrown: unknown) => log.error("work on a VM failed", { vm: id, error: toBangerError(thrown).message }))
      .finally(() => this.#background.delete(done));
    this.#background.add(done);
  }

  /** Resolves when everything that was begun by the daemon itself has ended. */
  async settled(): Promise<void> {
    while (this.#background.size > 0) await Promise.all(this.#background);
  }

  /** The daemon ends: nothing new is begun, and what is under way is undone. */
  async close(): Promise<void> {
    this.#ending.abort();
    await this.settled();
  }

  async delete(id: VmId): Promise<VmRecord> {
    return await this.parts.locks.run(id, async () => {
      // Whatever its record is like.
      const vm = this.parts.vms.get(id);
      if (vm === null) throw new BangerError("VM_NOT_FOUND", `the VM ${id} was deleted meanwhile`);
      await this.#delete(vm);
      await this.parts.engine.afterDelete?.();
      return { ...vm, ...NOT_RUNNING, state: "stopped" as const };
    });
  }

  async #delete(vm: Pick<VmRecord, "id">): Promise<void> {
    const { runner, engine } = this.parts;
    const context = this.undoContext(vm.id);
    let position = 0;
    for (const step of [...engine.createSteps, ...engine.startSteps].toReversed()) {
      await runner.journaled(vm.id, "delete", position++, `undo ${step.name}`, async () => await step.undo(context));
    }
    this.parts.vms.remove(vm.id);
    this.parts.journal.clearVm(vm.id);
    this.#cpu.forget(vm.id);
    this.#reboots.forget(vm.id);
  }

  async set(id: VmId, changes: Partial<VmSpec>): Promise<VmRecord> {
    return await this.parts.locks.run(id, async () => {
      const vm = this.#current(id);
      const { engine } = this.parts;
      if (vm.state === "running" && engine.setNat !== undefined && Object.keys(changes).every((key) => key === "nat")) {
        const nat = changes.nat ?? vm.spec.nat;
        // What the record wants is what a crash in between ends in.
        const saved = await this.#save({ ...vm, spec: { ...vm.spec, nat } });
        await engine.setNat(saved, nat);
        return saved;
      }
      if (vm.state !== "stopped" && vm.state !== "created") {
        throw new BangerError("WRONG_STATE", `${vm.name} is ${vm.state}; this is changed while a VM is stopped`, {
          hint: `banger vm stop ${vm.name}`,
        });
      }
      const spec = { ...vm.spec, ...changes };
      this.#checkFits({ ...vm, spec }, "INVALID_VALUE");
      const dirs = this.dirs(id);
      const grow = async (
        key: "diskBytes" | "systemOverlayBytes",
        work: (bytes: number, signal: AbortSignal) => Promise<void>,
      ): Promise<void> => {
        const bytes = changes[key];
        if (bytes === undefined || bytes === vm.spec[key]) return;
        if (bytes < vm.spec[key])
          throw new BangerError("INVALID_VALUE", `a disk only grows, and ${vm.name} has ${vm.spec[key]} bytes already`);
        await work(bytes, new AbortController().signal);
      };
      await grow("diskBytes", async (bytes) => await growWorkDisk(workDiskPath(dirs.state), bytes));
      await grow("systemOverlayBytes", async (bytes, signal) => await engine.growRoot(dirs, bytes, signal));
      return await this.#save({ ...vm, spec });
    });
  }

  /** Does the same to several: one listing, duplicates once, concurrently, results in the order asked. */
  async many(refs: readonly string[], work: (id: VmId) => Promise<VmRecord>): Promise<ManyItem[]> {
    const all = this.parts.vms.list();
    const byId = new Map<string, Promise<VmRecord>>();
    const started = refs.map((ref): readonly [string, Promise<VmRecord> | null] => {
      try {
        const vm = this.resolve(ref, all);
        if (byId.has(vm.id)) return [ref, null];
        const result = work(vm.id);
        result.catch(() => undefined);
        byId.set(vm.id, result);
        return [ref, result];
      } catch (thrown) {
        const failed = Promise.reject<VmRecord>(thrown);
        failed.catch(() => undefined);
        return [ref, failed];
      }
    });
    const items: ManyItem[] = [];
    for (const [ref, result] of started) {
      if (result === null) continue;
      try {
        items.push({ ref, vm: await result, error: null });
      } catch (thrown) {
        items.push({ ref, vm: null, error: toBangerError(thrown).toDocument() });
      }
    }
    return items;
  }

  #address(vm: VmRecord): GuestAddress | null {
    return this.parts.engine.guestAddress(vm, this.dirs(vm.id));
  }

  /** The guest of a running VM, with its control connection open; counts as use. @throws BangerError WRONG_STATE, GUEST_NOT_READY */
  async reach(vm: VmRecord): Promise<GuestAddress> {
    const address = this.#address(vm);
    if (vm.state !== "running" || address === null) {
      const why = vm.state === "error" && vm.reason !== null ? `: ${vm.reason}` : "";
      throw new BangerError("WRONG_STATE", `${vm.name} is ${vm.state}${why}`, {
        details: { state: vm.state },
        hint:
          vm.state === "stopped" || vm.state === "created" ? `banger vm start ${vm.name}` : `banger vm show ${vm.name}`,
      });
    }
    await this.parts.guest.open(address, this.parts.engine.deadlines(vm.acceleration ?? "tcg").readyMs / 5);
    const now = new Date();
    // Use is recorded by the minute: a row written for every exec would cost more than the exec.
    if (now.getTime() - Date.parse(vm.touchedAt) > 60_000)
      this.parts.vms.update({ ...this.#current(vm.id), touchedAt: now.toISOString() });
    return address;
  }

  async stats(vm: VmRecord): Promise<VmStats> {
    const dirs = this.dirs(vm.id);
    const usage = vm.pid === null ? null : await readUsage(vm.pid);
    const cpuPercent = usage === null ? 0 : this.#cpu.percent(vm.id, usage.cpu);
    let diskBytes = (await this.parts.engine.extraDiskBytes?.(vm.id)) ?? 0;
    for (const name of await readdir(dirs.state).catch(() => []))
      diskBytes += ((await stat(join(dirs.state, name)).catch(() => null))?.blocks ?? 0) * 512;
    const counters =
      vm.state === "running"
        ? await this.reach(vm).then(
            (address) => this.parts.guest.readCounters(address),
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

  /** One look after every running VM: gone VMMs, stale VMs, consoles that grew too long. */
  async patrol(): Promise<void> {
    const { vms, engine, log, config, locks } = this.parts;
    for (const [id, underway] of this.#unseen) {
      try {
        await locks.run(id, async () => await this.#reconcileOne(id, underway));
        this.#unseen.delete(id);
      } catch (thrown) {
        log.warn("still not reconciled", { vm: id, error: toBangerError(thrown).message });
      }
    }
    for (const { id } of vms.list().filter(({ state }) => state === "running")) {
      await locks.run(id, async () => {
        const vm = vms.get(id);
        if (vm === null || vm.state !== "running") return;
        if ((await engine.vmm.find(id, this.dirs(id).runtime)).length === 0) {
          log.info("the VMM ended by itself", { vm: id });
          await this.#settleEnded(vm, "the guest powered off, or its VMM ended");
          return;
        }
        if ((await engine.lookAfter?.(vm, this.dirs(id))) === true) {
          log.info("the guest powered off", { vm: id });
          await this.#settle(vm, "the guest powered off");
          return;
        }
        await engine.trimLogs(id, this.dirs(id));
        const idleMs = Date.now() - Date.parse(vm.touchedAt);
        if (config.auto_stop_stale_after > 0 && idleMs > config.auto_stop_stale_after) {
          log.info("stopping a stale VM", { vm: id, idleMs });
          await this.#stop(vm, { progress: () => undefined });
        }
      });
    }
  }

  /**
   * Makes the records true after a restart of the daemon, crash or not: finishes or takes back what was under
   * way, adopts the VMs that still run, and knows VMs again whose row was lost.
   */
  async reconcile(): Promise<void> {
    const { vms, journal, log, paths } = this.parts;
    for (const id of vms.removeNameless()) log.error("removed a row of the store whose id is none", { id });
    const underway = new Map<string, Set<JournalOperation>>();
    for (const { vm, operation } of journal.list()) {
      if (v.is(VmId, vm)) underway.set(vm, (underway.get(vm) ?? new Set()).add(operation));
      else journal.clearVm(vm);
    }
    for (const name of await readdir(paths.vmsDir).catch(() => [])) {
      const id = v.safeParse(VmId, name);
      if (!id.success || underway.has(name)) continue;
      const row = vms.read(id.output);
      if (row !== null && row.flaw === null) continue;
      const vm = await readHandles(this.dirs(name).state);
      if (vm === null || vm.id !== id.output) continue;
      try {
        if (row === null) vms.insert(vm);
        else vms.update(vm);
        log.warn("knew a VM again from its handles", { vm: name, ...(row === null ? {} : { flaw: row.flaw }) });
      } catch (thrown) {
        log.error("handles of a VM can't be used", { vm: name, error: toBangerError(thrown).message });
      }
    }
    const ids = new Set([...vms.list().map(({ id }) => id), ...[...underway.keys()].map((id) => v.parse(VmId, id))]);
    await Promise.all(
      [...ids].map(async (id) => {
        try {
          await this.#reconcileOne(id, underway.get(id) ?? new Set());
        } catch (thrown) {
          const error = toBangerError(thrown);
          log.error("could not be reconciled", { vm: id, error: error.message });
          const row = vms.read(id);
          if (row === null || row.flaw !== null) return;
          const { record: vm } = row;
          // What can't be seen now may well run: the patrol looks again.
          if (vm.state === "running") this.#unseen.set(id, underway.get(id) ?? new Set());
          else vms.update({ ...vm, state: "error", reason: error.message });
        }
      }),
    );
  }

  async #reconcileOne(id: VmId, underway: ReadonlySet<JournalOperation>): Promise<void> {
    const { vms, log, journal, engine } = this.parts;
    const row = vms.read(id);
    if (row === null || underway.has("create")) {
      log.warn("taking back an unfinished create", { vm: id });
      return await this.#discard(id);
    }
    const { record: vm, flaw } = row;
    if (underway.has("delete")) {
      log.warn("finishing a delete", { vm: id });
      return await this.#delete(vm);
    }
    if (flaw !== null) {
      // What may run of it is left alone: whether it should is what can't be read.
      log.error("the record of a VM is damaged", { vm: id, flaw });
      return;
    }
    const processes = await engine.vmm.find(id, this.dirs(id).runtime);
    if (underway.has("stop") || underway.has("start") || vm.state === "starting" || vm.state === "stopping") {
      // A start that was seen to its end has its row saved as running before its journal is cleared.
      if (vm.state === "running" && processes.length > 0 && !underway.has("stop")) {
        journal.clearVm(id);
      } else if (vm.state === "running" && underway.has("start")) {
        await this.#settle(vm, "the daemon ended during the start");
        return;
      } else {
        log.warn("ending what was under way", { vm: id, state: vm.state });
        if (vm.state === "stopping") this.#finishStop(vm);
        else await this.#settle(vm, vm.state === "starting" ? "the daemon ended during the start" : vm.reason);
        return;
      }
    }
    if (vm.state !== "running") {
      // Nothing may run of a VM that is recorded as stopped.
      if (processes.length > 0) await this.#settle(vm, vm.reason);
      if (vm.reason === REBOOTED) this.#inBackground(id, async (run) => await this.#startAgain(id, run));
      return;
    }
    if (processes.length === 0) {
      await this.#settleEnded(vm, "the VMM ended while no daemon ran");
      return;
    }
    // A logout may have taken the runtime directory away under the VM.
    const { runtime } = this.dirs(id);
    await ensurePrivateDirectory(dirname(runtime));
    await ensurePrivateDirectory(runtime);
    log.info("adopted", { vm: id, pid: processes[0]?.pid });
    await this.#save({ ...vm, pid: processes[0]?.pid ?? null });
    await engine.adopt?.(vm);
  }

  /** A stop that a crash cut short still gives the guest its time to write. Takes long, so nobody waits for it. */
  #finishStop(vm: VmRecord): void {
    const { locks, log, vms } = this.parts;
    void locks
      .run(vm.id, async () => {
        await this.#stop({ ...vm, state: "running" }, { progress: () => undefined });
      })
      .catch((thrown: unknown) => {
        const error = toBangerError(thrown);
        log.error("an unfinished stop could not be finished", { vm: vm.id, error: error.message });
        vms.update({ ...vm, state: "error", reason: error.message });
      });
  }

  findLeftovers(): ReturnType<typeof findLeftovers> {
    return findLeftovers(this.parts);
  }

  removeLeftovers(found: Awaited<ReturnType<typeof findLeftovers>>): Promise<void> {
    return removeLeftovers(found);
  }
}
