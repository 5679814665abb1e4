/** A row of the store that can't be read: the daemon starts, the others are listed, and the VM can be deleted. */

import { Database } from "bun:sqlite";
import { afterEach, beforeEach, expect, test } from "bun:test";
import { existsSync } from "node:fs";
import { rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import type { VmService } from "../../../../src/daemon/vm/service.ts";
import type { VmRecord } from "../../../../src/shared/contract/schemas.ts";
import { makeWorld, run, type World } from "../../../support/system-world.ts";

const spec = { vcpu: 1, memoryMiB: 256, diskBytes: 64 * 1024 ** 2, nat: false };

let world: World;
let service: VmService;
beforeEach(async () => {
  world = await makeWorld();
  service = await world.start();
});
afterEach(async () => await world[Symbol.asyncDispose]());

const create = async (name: string, start: boolean): Promise<VmRecord> =>
  await service.lifecycle.create({ name, image: "debian", spec, start }, run);

/** Writes a row behind the product's back. */
function damage(vm: VmRecord, record: unknown): void {
  const db = new Database(world.paths.database);
  db.query("UPDATE vms SET record = ? WHERE id = ?").run(JSON.stringify(record), vm.id);
  db.close();
}
const loseHandles = async (vm: VmRecord): Promise<void> =>
  await rm(join(service.records.dirs(vm.id).state, "handles.json"));

test.each([
  ["disk_size = 1M", (vm: VmRecord) => ({ ...vm, spec: { ...vm.spec, diskBytes: 1024 ** 2 } })],
  ["a field of a later version", (vm: VmRecord) => ({ ...vm, colour: "red" })],
  ["nothing in it", () => ({})],
])("%s: listed as what it is, left running, refused, deleted", async (_, breakIt) => {
  const [good, bad] = [await create("good", false), await create("bad", true)];
  damage(bad, breakIt(bad));
  await loseHandles(bad);
  service = await world.start();
  expect(world.vms.list().map(({ name, state }) => [name, state])).toEqual([
    ["bad", "error"],
    ["good", good.state],
  ]);
  // Whether it should run is what can't be read.
  expect(world.host.vmms.has(bad.id)).toBe(true);
  for (const attempt of [
    async () => await service.lifecycle.start(bad.id, run),
    async () => await service.lifecycle.stop(bad.id, run),
    async () => await service.lifecycle.kill(bad.id, "SIGKILL"),
    async () => await service.lifecycle.set(bad.id, { vcpu: 1 }),
  ]) {
    await expect(attempt()).rejects.toMatchObject({ code: "WRONG_STATE", hint: "banger vm delete bad" });
  }
  await service.patrol.run();
  await service.lifecycle.delete(bad.id);
  expect(world.vms.list().map(({ name }) => name)).toEqual(["good"]);
  expect(existsSync(service.records.dirs(bad.id).state)).toBe(false);
  expect([...world.host.vmms.keys()]).toEqual([]);
  await service.lifecycle.delete(good.id);
  expect(world.host.list()).toEqual([]);
});

test("its handles, when they are sound, make it whole again", async () => {
  const vm = await create("box", true);
  damage(vm, { ...vm, spec: { ...vm.spec, diskBytes: 1024 ** 2 } });
  service = await world.start();
  expect(world.vms.get(vm.id)).toMatchObject({ state: "running", spec: vm.spec, pid: vm.pid });
});

test("handles that name another VM, or a name that is taken, change nothing and keep nobody from starting", async () => {
  const [a, b] = [await create("a", false), await create("b", false)];
  const handles = (vm: VmRecord): string => join(service.records.dirs(vm.id).state, "handles.json");
  await writeFile(handles(b), JSON.stringify({ version: 1, vm: { ...b, name: "a" } }));
  world.vms.remove(b.id);
  service = await world.start();
  expect(world.vms.list()).toEqual([a]);
  await writeFile(handles(b), JSON.stringify({ version: 1, vm: a }));
  service = await world.start();
  expect(world.vms.list()).toEqual([a]);
});

test("rows and journal entries whose id is none are taken out", async () => {
  const db = new Database(world.paths.database);
  db.run("INSERT INTO vms (id, name, record) VALUES ('../x', 'x', '{}')");
  db.run("INSERT INTO journal VALUES ('../x', 'create', 0, 'vm-directory', 'begun')");
  db.close();
  service = await world.start();
  expect(world.vms.list()).toEqual([]);
  expect(service.parts.journal.list()).toEqual([]);
});

test.each([
  [
    "create",
    async () =>
      await service.lifecycle.create({ image: "debian", spec: { ...spec, memoryMiB: 2 ** 20 }, start: false }, run),
  ],
  ["set", async () => await service.lifecycle.set((await create("box", false)).id, { memoryMiB: 2 ** 20 })],
  ["set of vCPUs", async () => await service.lifecycle.set((await create("box", false)).id, { vcpu: 33 })],
])("%s: what this host could never run is refused, with what it has", async (_, attempt) => {
  const error = await attempt().catch((thrown: unknown) => thrown);
  expect(error).toMatchObject({ code: "INVALID_VALUE" });
  expect((error as Error).message).toMatch(/can't have 1048576 MiB of memory: this host has \d+ MiB|at most 32/);
  expect(world.vms.list().every(({ spec: kept }) => kept.memoryMiB === 256 && kept.vcpu === 1)).toBe(true);
});

test("a start of what this host can't run any more says so before anything is made", async () => {
  const vm = await create("box", false);
  world.vms.update({ ...vm, spec: { ...vm.spec, memoryMiB: 2 ** 20 } });
  await expect(service.lifecycle.start(vm.id, run)).rejects.toMatchObject({ code: "HOST_UNSUPPORTED" });
  expect(world.vms.get(vm.id)?.state).toBe("created");
  expect(world.helper.calls.map(({ verb }) => verb)).not.toContain("priv.launch_firecracker");
});
