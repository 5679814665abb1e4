/**
 * Runs steps with a journal, and takes them back. "Step k begins" is on disk before step k acts, so whatever a
 * crash leaves behind is named there; undo works from the VM's id alone.
 */

import { BangerError, toBangerError } from "../../shared/errors.ts";
import type { JournalOperation, JournalTable } from "../store/journal.ts";
import type { Log } from "../log.ts";
import type { RecordPatch, Step, StepContext, UndoContext } from "./step.ts";

/** Called at each journal entry. A test ends the process here; the product passes nothing. */
export type JournalHook = (operation: JournalOperation, step: string, phase: "begun" | "done") => void;

type Journal = Pick<JournalTable, "begin" | "done" | "clear">;

/** Undoes in reverse; an undo that fails doesn't stop the others. @throws AggregateError of all that failed */
export async function undoSteps(steps: readonly Step[], context: UndoContext): Promise<void> {
  const errors: unknown[] = [];
  for (const step of steps.toReversed()) {
    try {
      await step.undo(context);
    } catch (thrown) {
      errors.push(
        new Error(`undo ${step.name}: ${thrown instanceof Error ? thrown.message : String(thrown)}`, { cause: thrown }),
      );
    }
  }
  if (errors.length > 0) throw new AggregateError(errors, errors.map((error) => (error as Error).message).join("; "));
}

/** The steps in order, each with those that may run together with it. */
function batchesOf(steps: readonly Step[]): readonly (readonly Step[])[] {
  const batches: Step[][] = [];
  for (const step of steps) {
    const last = batches.at(-1);
    if (step.together === true && last !== undefined) last.push(step);
    else batches.push([step]);
  }
  return batches;
}

export class Runner {
  readonly #journal: Journal;
  readonly #log: Pick<Log, "debug">;
  readonly #hook: JournalHook;

  constructor(journal: Journal, log: Pick<Log, "debug">, hook: JournalHook = () => undefined) {
    this.#journal = journal;
    this.#log = log;
    this.#hook = hook;
  }

  /**
   * Does the steps in order, those that may run together at once, each with the record as the ones before left it.
   * Returns their patches as one. When one fails or the signal is raised, those begun are undone and the cause is thrown,
   * with what could not be undone joined to it; unless `keep`, which is told the patch so far, wants what was done to stay.
   */
  async run(
    operation: JournalOperation,
    steps: readonly Step[],
    context: StepContext,
    keep: (cause: unknown, patch: RecordPatch) => boolean = () => false,
  ): Promise<RecordPatch> {
    const begun: Step[] = [];
    let patch: RecordPatch = {};
    try {
      for (const batch of batchesOf(steps)) {
        context.signal.throwIfAborted();
        const first = begun.length;
        begun.push(...batch);
        const current: StepContext = { ...context, vm: { ...context.vm, ...patch } };
        // All are waited for: an undo must not meet a step that still acts.
        const results = await Promise.allSettled(
          batch.map(
            async (step, index) =>
              await this.journaled(context.id, operation, first + index, step.name, async () => await step.do(current)),
          ),
        );
        for (const result of results) if (result.status === "fulfilled") patch = { ...patch, ...result.value };
        const failed = results.find((result) => result.status === "rejected");
        if (failed !== undefined) throw failed.reason;
      }
      context.signal.throwIfAborted();
      return patch;
    } catch (cause) {
      if (keep(cause, patch)) throw cause;
      try {
        await undoSteps(begun, context);
      } catch (undoError) {
        const error = toBangerError(cause);
        throw new BangerError(
          error.code,
          `${error.message}; not everything could be undone: ${(undoError as Error).message}`,
          {
            ...error.toDocument(),
            hint: "banger gc",
            cause: new AggregateError([cause, undoError]),
          },
        );
      }
      this.#journal.clear(context.id, operation);
      throw cause;
    }
  }

  /** Does one named piece of work between its two journal entries. */
  async journaled<T>(
    vm: string,
    operation: JournalOperation,
    position: number,
    name: string,
    work: () => Promise<T>,
  ): Promise<T> {
    this.#journal.begin(vm, operation, position, name);
    this.#hook(operation, name, "begun");
    const began = performance.now();
    const result = await work();
    this.#log.debug("step done", { vm, operation, step: name, ms: Math.round(performance.now() - began) });
    this.#journal.done(vm, operation, position);
    this.#hook(operation, name, "done");
    return result;
  }

  clear(vm: string, operation: JournalOperation): void {
    this.#journal.clear(vm, operation);
  }
}
