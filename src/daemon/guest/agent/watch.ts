/** Keeps what the records say of the agents in running guests true, and those guests' clocks right. */

import type { VmId, VmRecord } from "../../../shared/contract/schemas.ts";
import { BangerError, toBangerError } from "../../../shared/errors.ts";
import type { Log } from "../../log.ts";
import type { VmTable } from "../../store/vms.ts";
import type { GuestAddress } from "../address.ts";
import type { GuestAgent } from "../questions.ts";

/** An agent answers in milliseconds, but on a busy host an emulated guest may take seconds for anything. */
const ANSWER_TIMEOUT_MS = 10_000;

export class AgentWatch {
  readonly #vms: Pick<VmTable, "get" | "list" | "update">;
  readonly #guest: GuestAgent;
  readonly #log: Log;
  readonly #addressOf: (vm: VmRecord) => GuestAddress | null;
  /** One look at a VM's agent at a time. */
  readonly #looks = new Map<VmId, Promise<void>>();
  readonly #closed = Promise.withResolvers<void>();
  #isClosed = false;

  constructor(
    parts: { readonly vms: Pick<VmTable, "get" | "list" | "update">; readonly guest: GuestAgent; readonly log: Log },
    addressOf: (vm: VmRecord) => GuestAddress | null,
  ) {
    this.#vms = parts.vms;
    this.#guest = parts.guest;
    this.#log = parts.log;
    this.#addressOf = addressOf;
  }

  /** Asks the agent of every running VM that was started with one. */
  async lookAtAll(): Promise<void> {
    await Promise.race([this.#closed.promise, Promise.all(this.#vms.list().map(async (vm) => await this.look(vm)))]);
  }

  /** Asks a VM's agent whether it answers, and keeps the answer in the record. */
  async look(vm: VmRecord): Promise<void> {
    const address = this.#addressOf(vm);
    if (vm.state !== "running" || vm.agent === null || address === null) return;
    const known = this.#looks.get(vm.id);
    if (known !== undefined) return await known;
    const look = this.#guest
      .agentAnswers(address, ANSWER_TIMEOUT_MS)
      .then((answers) => answers !== null && this.#note(vm, answers ? "answers" : "silent"))
      .then(() => undefined)
      .finally(() => this.#looks.delete(vm.id));
    this.#looks.set(vm.id, look);
    await look;
  }

  /** The same, for somebody who doesn't wait for it. */
  lookSoon(vm: VmRecord): void {
    void this.look(vm).catch((thrown: unknown) =>
      this.#log.error("a guest's agent could not be looked at", { vm: vm.id, error: toBangerError(thrown).message }),
    );
  }

  /** The daemon ends: what is still asked is noted nowhere, and nobody waits for it. */
  close(): void {
    this.#isClosed = true;
    this.#closed.resolve();
  }

  #note({ id, startedAt }: VmRecord, agent: "answers" | "silent"): void {
    if (this.#isClosed) return;
    const vm = this.#vms.get(id);
    // What was asked may be gone by now, and another guest in its place.
    if (vm === null || vm.state !== "running" || vm.startedAt !== startedAt || vm.agent === agent) return;
    this.#log.warn(agent === "silent" ? "the guest's agent does not answer" : "the guest's agent answers again", {
      vm: id,
    });
    this.#vms.update({ ...vm, agent });
  }

  /** Sets the clock of every guest whose agent answers. */
  async setClocks(): Promise<void> {
    await Promise.all(
      this.#vms.list().map(async (vm) => {
        const address = this.#addressOf(vm);
        if (vm.state !== "running" || address?.hasAgent !== true) return;
        try {
          await this.#guest.setClock(address, ANSWER_TIMEOUT_MS);
        } catch (thrown) {
          if (!(thrown instanceof BangerError)) throw thrown;
          this.#log.warn("a guest's clock could not be set", { vm: vm.id, error: thrown.message });
        }
      }),
    );
  }
}
