import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { addForward, joinPorts, listPorts, removeForward } from "../../../../src/daemon/api/ports.ts";
import { BangerError } from "../../../../src/shared/errors.ts";
import type { VmService } from "../../../../src/daemon/vm/service.ts";
import type { VmRecord } from "../../../../src/shared/contract/schemas.ts";
import { makeWorld, run, type World } from "../../../support/system-world.ts";

test("each listener with each of its forwards, and forwards that nobody listens behind", () => {
  const vm = "0123456789ab";
  const listeners = [
    { port: 22, process: "sshd" },
    { port: 80, process: "nginx" },
    { port: 5432, process: null },
  ];
  const forwards = [
    { vm, hostPort: 8080, guestPort: 80 },
    { vm, hostPort: 18080, guestPort: 80 },
    { vm, hostPort: 9000, guestPort: 9000 },
  ];
  expect(joinPorts(listeners, forwards)).toEqual([
    { port: 80, process: "nginx", hostPort: 8080, listens: true },
    { port: 80, process: "nginx", hostPort: 18080, listens: true },
    { port: 5432, process: null, hostPort: null, listens: true },
    { port: 9000, process: null, hostPort: 9000, listens: false },
  ]);
  expect(joinPorts([{ port: 22, process: "sshd" }], [{ vm, hostPort: 2222, guestPort: 22 }])).toHaveLength(1);
});

describe("forwards of a running VM", () => {
  const spec = { vcpu: 1, memoryMiB: 256, diskBytes: 64 * 1024 ** 2, nat: false };
  let world: World;
  let service: VmService;
  let box: VmRecord;
  let asked: string[];
  beforeEach(async () => {
    world = await makeWorld();
    service = await world.start();
    box = await service.lifecycle.create({ name: "box", image: "debian", spec, start: true }, run);
    asked = [];
    Object.assign(service.parts.guest, {
      addForward: async (_: unknown, hostPort: number, guestPort: number) =>
        void asked.push(`+${hostPort}:${guestPort}`),
      removeForward: async (_: unknown, hostPort: number) => void asked.push(`-${hostPort}`),
      listListeners: async () => [],
    });
  });
  afterEach(async () => await world[Symbol.asyncDispose]());

  test("one that isn't there can't be removed", async () => {
    await expect(removeForward(service, box, 8080)).rejects.toMatchObject({ code: "FORWARD_NOT_FOUND" });
    await addForward(service, box, 8080, 80);
    await expect(removeForward(service, box, 80)).rejects.toMatchObject({ code: "FORWARD_NOT_FOUND" });
    await removeForward(service, box, 8080);
    await expect(removeForward(service, box, 8080)).rejects.toMatchObject({ code: "FORWARD_NOT_FOUND" });
    expect(asked).toEqual(["+8080:80", "-8080"]);
  });

  test("the same again is there already; another one on its port names whose it is", async () => {
    const other = await service.lifecycle.create({ name: "other", image: "debian", spec, start: true }, run);
    await addForward(service, box, 8080, 80);
    expect(await addForward(service, box, 8080, 80)).toMatchObject({ vm: "box", hostPort: 8080, guestPort: 80 });
    for (const [vm, guestPort] of [
      [box, 81],
      [other, 80],
    ] as const)
      await expect(addForward(service, vm, 8080, guestPort)).rejects.toMatchObject({
        code: "IN_USE",
        message: "127.0.0.1:8080 is already forwarded to port 80 of box",
        hint: "banger vm forward --stop box 8080",
      });
    expect(asked).toEqual(["+8080:80"]);
    // What a stopped VM had is nobody's.
    await service.lifecycle.stop(box.id, run);
    expect(await addForward(service, other, 8080, 80)).toMatchObject({ vm: "other" });
  });

  test("why it fails is told as it is, and nothing is remembered", async () => {
    for (const code of ["IN_USE", "NO_ACCESS", "FAILED"] as const) {
      Object.assign(service.parts.guest, {
        addForward: async () => await Promise.reject(new BangerError(code, "why")),
      });
      await expect(addForward(service, box, 80, 80)).rejects.toMatchObject({ code, message: "why" });
    }
    expect(await listPorts(service, box)).toEqual([]);
  });

  test("a port that nobody listens on shows with its forward", async () => {
    await addForward(service, box, 9000, 9001);
    expect(await listPorts(service, box)).toEqual([
      { vm: "box", port: 9001, process: null, forward: "127.0.0.1:9000", url: null },
    ]);
  });
});
