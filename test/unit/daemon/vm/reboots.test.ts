import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import * as v from "valibot";
import { addForward } from "../../../../src/daemon/api/ports.ts";
import type { GuestAddress } from "../../../../src/daemon/guest/guest.ts";
import { Reboots } from "../../../../src/daemon/vm/reboots.ts";
import type { VmService } from "../../../../src/daemon/vm/service.ts";
import { BangerError } from "../../../../src/shared/errors.ts";
import { JAIL } from "../../../../src/shared/contract/helper-api.ts";
import { jailRootOf } from "../../../../src/shared/jail.ts";
import { VmId, type VmRecord } from "../../../../src/shared/contract/schemas.ts";
import { makeWorld, run, type World } from "../../../support/system-world.ts";

test("quick reboots are followed three times in a row; one that took its time, or somebody, begins anew", () => {
  const reboots = new Reboots();
  const [a, b] = ["0123456789ab", "ffffffffffff"].map((id) => v.parse(VmId, id)) as [VmId, VmId];
  expect([1, 2, 3, 4, 5].map(() => reboots.allow(a, 1000))).toEqual([true, true, true, false, false]);
  expect(reboots.allow(b, 1000)).toBe(true);
  expect(reboots.allow(a, 3_600_000)).toBe(true);
  expect(reboots.allow(a, 1000)).toBe(true);
  for (let more = 0; more < 5; more++) reboots.allow(a, 1000);
  reboots.forget(a);
  expect(reboots.allow(a, 1000)).toBe(true);
});

describe("a guest that ends its VMM", () => {
  const spec = { vcpu: 1, memoryMiB: 256, diskBytes: 64 * 1024 ** 2, nat: true };
  let world: World;
  let service: VmService;
  let box: VmRecord;
  beforeEach(async () => {
    world = await makeWorld();
    service = await world.start();
    box = await service.lifecycle.create({ name: "box", image: "debian", spec, start: true }, run);
  });
  afterEach(async () => await world[Symbol.asyncDispose]());

  /** What the guest prints, and then its VMM is gone. */
  async function end(words: string): Promise<void> {
    await writeFile(join(jailRootOf(world.paths.jailDir, box.id), JAIL.serialLog), words);
    const child = world.host.vmms.get(box.id)?.child;
    child?.kill("SIGKILL");
    await child?.exited;
  }
  const launches = (): number => world.helper.calls.filter(({ verb }) => verb === "priv.launch_firecracker").length;
  const now = (): VmRecord => world.vms.get(box.id) as VmRecord;

  test("by a reboot is started again: another process, its address, its rules, its forwards", async () => {
    const forwarded: string[] = [];
    Object.assign(service.parts.guest, {
      addForward: async (_: unknown, from: number, to: number) => void forwarded.push(`${from}:${to}`),
    });
    await addForward(service, box, 8080, 80);
    await end("[   9.1] reboot: Restarting system\n");
    await service.patrol.run();
    await service.restarts.settled();
    expect(now()).toMatchObject({ state: "running", reason: null, guestIp: box.guestIp });
    expect(now().pid).not.toBe(box.pid);
    expect(launches()).toBe(2);
    expect(world.host.rules.size).toBe(1);
    expect(forwarded).toEqual(["8080:80", "8080:80"]);
    expect(service.parts.forwards.list(box.id)).toHaveLength(1);
    expect(service.parts.journal.list()).toEqual([]);
  });

  test.each(["[   9.1] reboot: Power down\n", "[   1.0] Kernel panic - not syncing: x\n", ""])(
    "after %p stays stopped",
    async (words) => {
      await end(words);
      await service.patrol.run();
      await service.restarts.settled();
      expect(now().state).toBe("stopped");
      expect(launches()).toBe(1);
    },
  );

  test("by a reboot while no daemon ran is started by the next one", async () => {
    await end("[   9.1] reboot: Restarting system\n");
    service = await world.start();
    await service.restarts.settled();
    expect(now().state).toBe("running");
    expect(launches()).toBe(2);
  });

  test("again and again is left stopped, with the reason; a start by hand begins anew", async () => {
    for (let reboot = 0; reboot < 4; reboot++) {
      await end("[   9.1] reboot: Restarting system\n");
      await service.patrol.run();
      await service.restarts.settled();
    }
    expect(now()).toMatchObject({ state: "stopped", reason: expect.stringContaining("again and again") });
    expect(launches()).toBe(4);
    await service.lifecycle.start(box.id, run);
    await end("[   9.1] reboot: Restarting system\n");
    await service.patrol.run();
    await service.restarts.settled();
    expect(now().state).toBe("running");
  });

  test("stopped in the moment before it starts again stays stopped", async () => {
    await service.restarts.close();
    await end("[   9.1] reboot: Restarting system\n");
    await service.patrol.run();
    await service.lifecycle.stop(box.id, run);
    service = await world.start();
    await service.restarts.settled();
    expect(now()).toMatchObject({ state: "stopped", reason: null });
    expect(launches()).toBe(1);
  });

  test("a start that fails after a reboot leaves the VM stopped, with the reason", async () => {
    await end("[   9.1] reboot: Restarting system\n");
    world.broken.add("priv.launch_firecracker");
    await service.patrol.run();
    await service.restarts.settled();
    expect(now()).toMatchObject({ state: "stopped", reason: "priv.launch_firecracker is broken" });
  });

  test("a daemon that ends begins nothing new", async () => {
    await service.restarts.close();
    await end("[   9.1] reboot: Restarting system\n");
    await service.patrol.run();
    await service.restarts.settled();
    expect(launches()).toBe(1);
    expect(now().state).toBe("stopped");
    // The next one goes on where this one ended.
    service = await world.start();
    await service.restarts.settled();
    expect(now().state).toBe("running");
  });
});

describe("a kernel that panics while it boots", () => {
  const spec = { vcpu: 1, memoryMiB: 256, diskBytes: 64 * 1024 ** 2, nat: false };
  const early =
    "[    0.983012] Oops: int3: 0000 [#1]\n[    0.98] Kernel panic - not syncing: Fatal exception\n".replace(
      "0.98]",
      "0.984001]",
    );
  const late = `[    0.500000] x\nWelcome to Debian\n${early}`;
  let world: World;
  let service: VmService;
  beforeEach(async () => {
    world = await makeWorld();
    service = await world.start();
  });
  afterEach(async () => await world[Symbol.asyncDispose]());

  /** The first boots end with these consoles; the ones after come up. */
  function panics(acceleration: "tcg" | "kvm", ...consoles: string[]): void {
    Object.assign(service.parts.engine, { requireAcceleration: () => acceleration });
    Object.assign(service.parts.guest, {
      open: async ({ jailRoot = "" }: GuestAddress) => {
        const console = consoles.shift();
        if (console === undefined) return;
        await writeFile(join(jailRoot, JAIL.serialLog), console);
        throw new BangerError("GUEST_NOT_READY", "no answer");
      },
    });
  }
  const create = async (): Promise<VmRecord> =>
    await service.lifecycle.create({ name: "box", image: "debian", spec, start: true }, run);
  const launches = (): number => world.helper.calls.filter(({ verb }) => verb === "priv.launch_firecracker").length;

  test("before its init, under emulation: started once more, and what the first start made is undone first", async () => {
    panics("tcg", early);
    expect(await create()).toMatchObject({ state: "running", reason: null });
    expect(launches()).toBe(2);
    expect(world.host.list().filter((item) => item.startsWith("vmm"))).toHaveLength(1);
    expect(service.parts.journal.list()).toEqual([]);
  });

  test.each([
    ["twice", "tcg", [early, early], 2],
    ["after its init spoke", "tcg", [late], 1],
    ["on real hardware", "kvm", [early], 1],
  ] as const)("%s: that is the answer", async (_, acceleration, consoles, tries) => {
    panics(acceleration, ...consoles);
    await expect(create()).rejects.toMatchObject({
      code: "GUEST_NOT_READY",
      message: expect.stringContaining("panicked"),
    });
    expect(launches()).toBe(tries);
    expect(world.vms.list()).toMatchObject([{ name: "box", state: "running", reason: "the guest never answered" }]);
  });
});
