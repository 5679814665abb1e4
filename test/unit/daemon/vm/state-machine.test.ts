import { expect, test } from "bun:test";
import { VM_STATES, type VmRecord } from "../../../../src/shared/contract/schemas.ts";
import { become, canBecome } from "../../../../src/daemon/vm/state-machine.ts";

const vm = (state: VmRecord["state"]): VmRecord => ({ name: "box", state, reason: "old" }) as VmRecord;

test("the legal changes, and no others", () => {
  const legal = VM_STATES.flatMap((from) =>
    VM_STATES.filter((to) => canBecome(from, to)).map((to) => `${from} → ${to}`),
  );
  expect(legal).toEqual([
    "created → starting",
    "created → error",
    "starting → running",
    "starting → stopped",
    "starting → error",
    "running → stopping",
    "running → stopped",
    "running → error",
    "stopping → stopped",
    "stopping → error",
    "stopped → starting",
    "stopped → error",
    "error → starting",
    "error → stopping",
    "error → stopped",
  ]);
});

test("a change forgets the old reason; an illegal one is WRONG_STATE", () => {
  expect(become(vm("stopped"), "starting")).toMatchObject({ state: "starting", reason: null });
  expect(become(vm("starting"), "stopped", { reason: "new" })).toMatchObject({ reason: "new" });
  expect(() => become(vm("created"), "running")).toThrow("box is created, so it can't become running");
});
