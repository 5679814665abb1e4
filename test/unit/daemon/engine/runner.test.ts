import { expect, test } from "bun:test";
import { Runner } from "../../../../src/daemon/engine/runner.ts";
import type { RecordPatch, Step, StepContext } from "../../../../src/daemon/engine/step.ts";
import { openDatabase } from "../../../../src/daemon/store/database.ts";
import { JournalTable } from "../../../../src/daemon/store/journal.ts";
import { BangerError } from "../../../../src/shared/errors.ts";

const runner = (): Runner => new Runner(new JournalTable(openDatabase(":memory:")), { debug: () => undefined });
const context = {
  id: "000000000000",
  vm: { name: "box", pid: null, address: null },
  signal: new AbortController().signal,
} as unknown as StepContext;

/** A step that notes the record it is given. */
const step = (seen: unknown[], says: RecordPatch | Error, together?: true): Step => ({
  name: `step-${crypto.randomUUID()}`,
  ...(together === undefined ? {} : { together }),
  do: async ({ vm: { pid, address } }) => {
    seen.push([pid, address]);
    if (says instanceof Error) throw says;
    return says;
  },
  undo: async () => undefined,
});

test("a step sees what those before it said of the record, not what those beside it say", async () => {
  const seen: unknown[] = [];
  const steps = [
    step(seen, { pid: 7 }),
    step(seen, { address: "127.0.0.1:2222" }),
    step(seen, { pid: 8 }, true),
    step(seen, { bootId: "b" }),
  ];
  expect(await runner().run("start", steps, context)).toEqual({ pid: 8, address: "127.0.0.1:2222", bootId: "b" });
  expect(seen).toEqual([
    [null, null],
    [7, null],
    [7, null],
    [8, "127.0.0.1:2222"],
  ]);
});

test.each([
  ["after", undefined],
  ["beside", true],
] as const)("a step fails %s another that changed the record: keep is told that change", async (_, together) => {
  const cause = new BangerError("GUEST_NOT_READY", "no answer");
  const told: unknown[] = [];
  const keep = (thrown: unknown, patch: RecordPatch): boolean => told.push([thrown, patch]) > 0;
  const steps = [step([], { pid: 7 }), step([], cause, together)];
  await expect(runner().run("start", steps, context, keep)).rejects.toBe(cause);
  expect(told).toEqual([[cause, { pid: 7 }]]);
});
