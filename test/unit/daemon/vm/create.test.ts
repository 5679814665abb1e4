import { afterEach, beforeEach, expect, spyOn, test } from "bun:test";
import type { VmService } from "../../../../src/daemon/vm/service.ts";
import { BangerError } from "../../../../src/shared/errors.ts";
import { makeWorld, run, type World } from "../../../support/system-world.ts";

const spec = { vcpu: 1, memoryMiB: 256, diskBytes: 64 * 1024 ** 2, nat: false };

let world: World;
let service: VmService;
beforeEach(async () => {
  world = await makeWorld();
  service = await world.start();
});
afterEach(async () => await world[Symbol.asyncDispose]());

test.each([
  [true, "running", 1],
  [false, "created", 0],
] as const)("a create that starts (%p) does each thing once", async (start, state, updates) => {
  const { images, engine, vms } = service.parts;
  const reserve = spyOn(engine, "reserve");
  const files = spyOn(images, "files");
  const [insert, update] = [spyOn(vms, "insert"), spyOn(vms, "update")];
  const vm = await service.lifecycle.create({ name: "box", image: "debian", spec, start }, run);
  expect(vm.state).toBe(state);
  expect(world.vms.get(vm.id)).toEqual(vm);
  expect([reserve, files, insert].map(({ mock }) => mock.calls.length)).toEqual([1, 1, 1]);
  // Once it runs; a VM that is only made is in the store already.
  expect(update.mock.calls.length).toBe(updates);
  // Known again though the store is lost.
  world.vms.remove(vm.id);
  service = await world.start();
  expect(world.vms.get(vm.id)).toMatchObject({ name: "box", state });
});

test("what can't be run is refused before an image is built for it", async () => {
  const ensure = spyOn(service.parts.images, "ensure");
  const asked = { image: "debian", spec: { ...spec, memoryMiB: 2 ** 20 }, start: true };
  await expect(service.lifecycle.create(asked, run)).rejects.toMatchObject({ code: "INVALID_VALUE" });
  expect(ensure.mock.calls.length).toBe(0);
});

test("the hint of a create that was undone names no VM: there is none", async () => {
  Object.assign(service.parts.guest, {
    open: async () => await Promise.reject(new BangerError("VMM_FAILED", "it ended", { hint: "banger vm logs box" })),
  });
  await expect(
    service.lifecycle.create({ name: "box", image: "debian", spec, start: true }, run),
  ).rejects.toMatchObject({
    code: "VMM_FAILED",
    hint: "banger daemon logs -n 20",
  });
  expect(world.vms.list()).toEqual([]);
  expect(world.host.list()).toEqual([]);
});

test("what is made is told first, once, and resolved once", async () => {
  const said: string[] = [];
  const detect = spyOn(service.parts.engine, "detectAcceleration");
  const vm = await service.lifecycle.create(
    { name: "box", image: "debian", spec, start: true },
    {
      ...run,
      progress: ({ stage }) => void said.push(stage),
      resolved: (resolved) => {
        said.push("spec");
        expect(resolved).toMatchObject({ image: "debian", imagePresent: true, acceleration: "kvm", spec });
      },
    },
  );
  expect(said[0]).toBe("spec");
  expect(said.filter((each) => each === "spec")).toHaveLength(1);
  expect(detect.mock.calls.length).toBe(1);
  expect(vm.spec).toMatchObject(spec);
});
