/** Steps against a host that is a set of things: whatever fails, wherever a crash falls, nothing is left. */

import { expect, test } from "bun:test";
import fc from "fast-check";
import { type JournalHook, Runner, undoSteps } from "../../src/daemon/engine/runner.ts";
import type { Step, StepContext, UndoContext } from "../../src/daemon/engine/step.ts";
import { openDatabase } from "../../src/daemon/store/database.ts";
import { JournalTable } from "../../src/daemon/store/journal.ts";

class Crash extends Error {}

/** Steps that each put one thing on the host, in two parts, so that a step can be cut in the middle. */
function makeSteps(
  host: Set<string>,
  count: number,
  failing: { readonly step: number; readonly how: "before" | "middle" | "after" } | null,
): Step[] {
  return Array.from({ length: count }, (_, index): Step => {
    const fail = (how: string): void => {
      if (failing?.step === index && failing.how === how) throw new Error(`step ${index} failed ${how}`);
    };
    return {
      name: `step-${index}`,
      do: async () => {
        fail("before");
        host.add(`${index}a`);
        fail("middle");
        host.add(`${index}b`);
        fail("after");
      },
      undo: async () => {
        host.delete(`${index}a`);
        host.delete(`${index}b`);
      },
    };
  });
}

const contextOf = (signal: AbortSignal): StepContext => ({ id: "000000000000", signal }) as unknown as StepContext;
const undoContext = { id: "000000000000" } as unknown as UndoContext;
const caseOf = fc.record({
  count: fc.integer({ min: 1, max: 8 }),
  at: fc.nat({ max: 7 }),
  how: fc.constantFrom("before" as const, "middle" as const, "after" as const),
});

const quiet = { debug: () => undefined };

test("a step that fails anywhere leaves nothing on the host and nothing in the journal", async () => {
  await fc.assert(
    fc.asyncProperty(caseOf, async ({ count, at, how }) => {
      const host = new Set<string>();
      const journal = new JournalTable(openDatabase(":memory:"));
      const steps = makeSteps(host, count, { step: at % count, how });
      const run = new Runner(journal, quiet).run("start", steps, contextOf(new AbortController().signal));
      await expect(run).rejects.toThrow(`step ${at % count} failed ${how}`);
      expect([...host]).toEqual([]);
      expect(journal.list()).toEqual([]);
    }),
  );
});

test("cancelled at any journal entry, nothing is left", async () => {
  await fc.assert(
    fc.asyncProperty(caseOf, fc.constantFrom("begun", "done"), async ({ count, at }, phase) => {
      const host = new Set<string>();
      const journal = new JournalTable(openDatabase(":memory:"));
      const abort = new AbortController();
      const hook: JournalHook = (_operation, step, when) => {
        if (step === `step-${at % count}` && when === phase) abort.abort();
      };
      const run = new Runner(journal, quiet, hook).run("start", makeSteps(host, count, null), contextOf(abort.signal));
      await expect(run).rejects.toThrow();
      expect([...host]).toEqual([]);
      expect(journal.list()).toEqual([]);
    }),
  );
});

test("a crash at any journal entry is named there, and the undo of all steps, once or twice, clears the host", async () => {
  await fc.assert(
    fc.asyncProperty(caseOf, fc.constantFrom("begun", "done"), fc.boolean(), async ({ count, at }, phase, twice) => {
      const host = new Set<string>();
      const journal = new JournalTable(openDatabase(":memory:"));
      const hook: JournalHook = (_operation, step, when) => {
        if (step === `step-${at % count}` && when === phase) throw new Crash();
      };
      const steps = makeSteps(host, count, null);
      // A crash runs no undo: `keep` stands for the process that is gone.
      await expect(
        new Runner(journal, quiet, hook).run("start", steps, contextOf(new AbortController().signal), () => true),
      ).rejects.toThrow(Crash);
      const begun = journal.list().map(({ step }) => step);
      for (const thing of host) expect(begun).toContain(`step-${thing.slice(0, -1)}`);
      await undoSteps(steps, undoContext);
      if (twice) await undoSteps(steps, undoContext);
      expect([...host]).toEqual([]);
    }),
  );
});

test("an undo that fails stops no other, and every failure is told", async () => {
  await fc.assert(
    fc.asyncProperty(fc.uniqueArray(fc.nat({ max: 5 }), { minLength: 1 }), async (broken) => {
      const host = new Set<string>();
      const steps = makeSteps(host, 6, null).map((step, index): Step =>
        broken.includes(index) ? { ...step, undo: async () => await Promise.reject(new Error("stuck")) } : step,
      );
      for (const step of steps) await step.do(contextOf(new AbortController().signal));
      const error = await undoSteps(steps, undoContext).catch((thrown: unknown) => thrown);
      expect(error).toBeInstanceOf(AggregateError);
      expect((error as AggregateError).errors).toHaveLength(broken.length);
      expect(new Set([...host].map((thing) => Number(thing.slice(0, -1))))).toEqual(new Set(broken));
    }),
  );
});
