/** A VM whose guest has an agent, from its start to its end: what the daemon asks of it, and what it does without it. */

import { afterEach, beforeEach, expect, test } from "bun:test";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { createVmHandlers } from "../../../../src/daemon/api/vm.ts";
import { examineHost } from "../../../../src/daemon/doctor/doctor.ts";
import type { OperationContext } from "../../../../src/daemon/api/operations.ts";
import type { VmService } from "../../../../src/daemon/vm/service.ts";
import type { VmRecord, WayIn } from "../../../../src/shared/contract/schemas.ts";
import { JAIL } from "../../../../src/shared/contract/helper-api.ts";
import { jailRootOf } from "../../../../src/shared/jail.ts";
import type { AgentPeer } from "../../../support/fake-agent.ts";
import { makeWorld, run, type World } from "../../../support/system-world.ts";

const BOOT_ID = "b4c9f2a4-5d3b-4d7e-9c39-0f9b1f3a7c11";
const spec = { vcpu: 1, memoryMiB: 256, diskBytes: 64 * 1024 ** 2, nat: false };

let world: World;
let service: VmService;
let asked: string[];
let opened: string[];
/** Clocks that guests were told, in seconds. */
let clocks: number[];
beforeEach(async () => {
  world = await makeWorld();
  asked = [];
  opened = [];
  clocks = [];
  world.host.agent = serve;
  await begin();
});
afterEach(async () => await world[Symbol.asyncDispose]());

/** A daemon that was just started. */
async function begin(): Promise<void> {
  service = await world.start();
  Object.assign(service.parts.guest, { open: async ({ id }: VmRecord) => void opened.push(id) });
}

async function serve(peer: AgentPeer): Promise<void> {
  await peer.accept();
  const [first] = await peer.readRequest();
  asked.push(first?.name ?? "nothing");
  if (first?.name === "waitReady") peer.send("ready", { flags: 1, bytes: Buffer.from(BOOT_ID) });
  if (first?.name === "usage") peer.send("counters", { rxBytes: 7n, txBytes: 9n });
  if (first?.name === "usage" || first?.name === "clock") peer.send("done", {});
  if (first?.name === "clock") clocks.push(Number(first.seconds));
}

const createBox = async (): Promise<VmRecord> =>
  await service.lifecycle.create({ name: "box", image: "debian", spec, start: true }, run);
const connect = async (...accepts: ("agent" | "ssh")[]): Promise<WayIn> =>
  await createVmHandlers(service)["vm.connect"]({ vm: "box", accepts }, run as OperationContext);
const agentOf = (vm: VmRecord): VmRecord["agent"] => world.vms.get(vm.id)?.agent ?? null;
/** The agent is gone, and the guest's kernel refuses connections to its port. */
async function killAgent(vm: VmRecord): Promise<void> {
  await world.host.vmms.get(vm.id)?.agent?.[Symbol.asyncDispose]();
}

test("a start ends with the agent's word and opens no ssh; the guest's clock is this host's", async () => {
  const before = Math.floor(Date.now() / 1000);
  const box = await createBox();
  expect(box).toMatchObject({ state: "running", bootId: BOOT_ID, agent: "answers" });
  expect(asked).toEqual(["waitReady", "clock"]);
  expect(opened).toEqual([]);
  expect(clocks[0]).toBeGreaterThanOrEqual(before);
});

test("the way in is the agent for who takes it, and ssh for who doesn't", async () => {
  const box = await createBox();
  const jailRoot = jailRootOf(world.paths.jailDir, box.id);
  expect(await connect("agent", "ssh")).toEqual({
    kind: "agent",
    id: box.id,
    name: "box",
    workDir: "/root",
    channel: { kind: "vsock", jailRoot },
  });
  expect(opened).toEqual([]);
  expect(await connect("ssh")).toMatchObject({ kind: "ssh", sshArgv: ["ssh", "root@guest"] });
  expect(opened).toEqual([box.id]);
});

test("a VM that an older banger started has ssh alone, and is asked nothing", async () => {
  world.host.agent = null;
  const box = await createBox();
  expect(box.agent).toBe(null);
  world.vms.update({ ...box, agent: null });
  expect((await connect("agent", "ssh")).kind).toBe("ssh");
  await expect(connect("agent")).rejects.toMatchObject({ code: "GUEST_NOT_READY" });
  await service.patrol.run();
  expect(asked).toEqual([]);
});

test("an agent that was killed is noticed, named by doctor, and done without", async () => {
  const box = await createBox();
  await killAgent(box);
  await service.patrol.run();
  expect(agentOf(box)).toBe("silent");
  expect((await connect("agent", "ssh")).kind).toBe("ssh");
  const rows = await examineHost(service.parts, run.signal);
  expect(rows.find(({ check }) => check === "guest agents")).toMatchObject({
    level: "WARN",
    message: expect.stringContaining("box"),
    fix: "banger vm restart box",
  });
});

test("who falls back to ssh makes the daemon look", async () => {
  const box = await createBox();
  await killAgent(box);
  await connect("ssh");
  while (agentOf(box) !== "silent") await Bun.sleep(1);
});

test("an answer about a guest that is gone is not the next one's", async () => {
  const box = await createBox();
  await killAgent(box);
  const look = service.agents.look(box);
  world.vms.update({ ...box, startedAt: new Date(Date.now() + 1000).toISOString() });
  await look;
  expect(agentOf(box)).toBe("answers");
});

test("the next daemon finds the agent again without a word to it", async () => {
  const box = await createBox();
  asked = [];
  await begin();
  expect(agentOf(box)).toBe("answers");
  expect((await connect("agent", "ssh")).kind).toBe("agent");
  expect(asked).toEqual([]);
});

test("a guest that was given up has its agent back as soon as that answers", async () => {
  let isUp = false;
  world.host.agent = async (peer) => {
    if (isUp) return await serve(peer);
    for (const id of world.host.vmms.keys())
      await writeFile(join(jailRootOf(world.paths.jailDir, id), JAIL.serialLog), "[    1.0] Kernel panic\n");
  };
  await expect(createBox()).rejects.toMatchObject({ code: "GUEST_NOT_READY" });
  const [box] = world.vms.list();
  expect(box).toMatchObject({ state: "running", agent: "silent" });
  isUp = true;
  await service.agents.lookAtAll();
  expect(world.vms.list()).toMatchObject([{ agent: "answers" }]);
});

test("a VM that stopped has no agent", async () => {
  const box = await createBox();
  await service.lifecycle.stop(box.id, run);
  expect(agentOf(box)).toBe(null);
  expect((await examineHost(service.parts, run.signal)).find(({ check }) => check === "guest agents")?.level).toBe(
    "PASS",
  );
});

test("clocks are set again after this host slept", async () => {
  await createBox();
  asked = [];
  await service.agents.setClocks();
  expect(asked).toEqual(["clock"]);
});
