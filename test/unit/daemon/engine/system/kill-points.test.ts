/**
 * The daemon killed with -9 at every journal entry, then started again: it leaves nothing behind. test/e2e/crash.test.ts
 * shows the same of the rootless engine, with real guests.
 */

import { expect, test } from "bun:test";
import { join } from "node:path";
import type { VmService } from "../../../../../src/daemon/vm/service.ts";
import { eventually } from "../../../../support/banger.ts";
import { makeWorld, type World } from "../../../../support/system-world.ts";

type Entry = readonly [operation: string, step: string, phase: string];
type Steps = readonly { readonly name: string }[];

const namesOf = (steps: Steps): string[] => steps.map(({ name }) => name);
const undosOf = (steps: Steps): string[] => steps.toReversed().map(({ name }) => `undo ${name}`);
const entriesOf = (operation: string, steps: readonly string[]): readonly Entry[] =>
  steps.flatMap((step) => (["begun", "done"] as const).map((phase) => [operation, step, phase] as const));

/** Most of the time a daemon waits for a disk or a process, so several die side by side. */
const WORLDS = 4;

/** Kills a daemon at each entry. Checks what the next daemon has made of it; each world is reused for its next entry. */
async function killAtEach(
  list: (engine: VmService["parts"]["engine"]) => readonly Entry[],
  check: (world: World, service: VmService, entry: Entry) => Promise<void>,
): Promise<void> {
  const worlds = await Promise.all(Array.from({ length: WORLDS }, makeWorld));
  try {
    const waiting = [...list((await (worlds[0] as World).start()).parts.engine)];
    expect(waiting).not.toEqual([]);
    const results = await Promise.allSettled(
      worlds.map(async (world) => {
        for (let entry = waiting.shift(); entry !== undefined; entry = waiting.shift()) {
          await dieAt(world, entry);
          await check(world, await world.start(), entry);
        }
      }),
    );
    for (const result of results) if (result.status === "rejected") throw result.reason;
  } finally {
    for (const world of worlds) await world[Symbol.asyncDispose]();
  }
}

async function dieAt(world: World, entry: Entry): Promise<void> {
  const root = world.paths.baseDir.slice(0, -"/var/lib/banger".length);
  const program = join(import.meta.dir, "../../../../support/system-fault.ts");
  const child = Bun.spawn([process.execPath, program, root, ...entry], {
    stdin: "ignore",
    stdout: "ignore",
    stderr: "pipe",
  });
  await child.exited;
  const said = child.signalCode === null ? await new Response(child.stderr).text() : "";
  expect([...entry, child.signalCode, said]).toEqual([...entry, "SIGKILL", ""]);
}

test("of create, or of the start that is part of it: it is undone", async () => {
  await killAtEach(
    ({ createSteps, startSteps }) => [
      ...entriesOf("create", namesOf(createSteps)),
      ...entriesOf("start", namesOf(startSteps)),
    ],
    async (world, _, entry) => {
      expect([...entry, world.vms.list(), world.host.list()]).toEqual([...entry, [], []]);
    },
  );
}, 120_000);

test("of stop: it is finished, and what is kept is kept", async () => {
  await killAtEach(
    ({ startSteps }) => entriesOf("stop", ["guest-poweroff", ...undosOf(startSteps)]),
    async (world, service, entry) => {
      const [vm] = world.vms.list();
      if (vm === undefined) throw new Error(`${entry.join(" ")}: the VM is gone`);
      await eventually(`${entry.join(" ")}: stopped`, 20_000, () => world.vms.get(vm.id)?.state === "stopped");
      expect([...entry, world.host.list()]).toEqual([...entry, [`cow ${vm.id}`, `slot ${vm.id}`]]);
      await service.lifecycle.delete(vm.id);
      expect([...entry, world.vms.list(), world.host.list()]).toEqual([...entry, [], []]);
    },
  );
}, 120_000);

test("of delete: it is finished", async () => {
  await killAtEach(
    ({ createSteps, startSteps }) => entriesOf("delete", undosOf([...createSteps, ...startSteps])),
    async (world, _, entry) => {
      expect([...entry, world.vms.list(), world.host.list()]).toEqual([...entry, [], []]);
    },
  );
}, 120_000);
