/**
 * The daemon killed with -9 at every journal entry of create, start, stop and delete, then started again: the list is
 * true, nothing leaks, and a guest that runs meanwhile never notices.
 */

import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { existsSync } from "node:fs";
import { readdir, rm } from "node:fs/promises";
import { join, resolve } from "node:path";
import { createRootlessEngine } from "../../src/daemon/engine/rootless/engine.ts";
import { isListening } from "../../src/shared/places/listening.ts";
import { rootlessPaths } from "../../src/shared/places/paths.ts";
import { callApi } from "../support/api.ts";
import { eventually, type Home, makeHomeWithImage } from "../support/banger.ts";

interface Vm {
  readonly id: string;
  readonly name: string;
  readonly state: string;
  readonly pid: number | null;
  readonly bootId: string | null;
}

const { createSteps, startSteps } = createRootlessEngine(rootlessPaths({}, "/nowhere", 0));
const PHASES = ["begun", "done"] as const;
const names = (steps: readonly { readonly name: string }[]): string[] => steps.map(({ name }) => name);
const undone = (steps: readonly { readonly name: string }[]): string[] =>
  names(steps)
    .toReversed()
    .map((name) => `undo ${name}`);
const points = (operation: string, steps: readonly string[]): (readonly [string, string, string])[] =>
  steps.flatMap((step) => PHASES.map((phase) => [operation, step, phase] as const));

let home: Home;
let bystander: Vm;

beforeAll(async () => {
  home = await makeHomeWithImage();
  await home.ok(["vm", "run", "-d", "--name", "bystander", "--memory", "512M"], { timeoutMs: 300_000 });
  bystander = await show("bystander");
}, 900_000);
afterAll(async () => {
  await home[Symbol.asyncDispose]();
});

const show = async (name: string): Promise<Vm> => await home.json<Vm>(["vm", "show", name]);
const others = async (): Promise<Vm[]> =>
  (await home.json<Vm[]>(["vm", "list", "-a"])).filter(({ name }) => name !== "bystander");

async function list(dir: string): Promise<string[]> {
  return existsSync(dir) ? await readdir(dir) : [];
}

/** Runs one API call against a daemon that dies at the entry; the call's connection must break. */
async function dieAt(at: readonly string[], method: string, input: unknown): Promise<void> {
  await home.ok(["daemon", "stop"]);
  const daemon = Bun.spawn(["bun", resolve(import.meta.dir, "../support/fault-daemon.ts"), ...at], {
    env: home.env,
    stdin: "ignore",
    stdout: "ignore",
    stderr: "pipe",
  });
  await eventually(
    "the daemon listens",
    60_000,
    async () => daemon.exitCode !== null || (await isListening(join(home.runtimeDir, "bangerd.sock"))),
  );
  const answer = await callApi(home, method, input).catch((error: unknown) => error);
  const status = await Promise.race([daemon.exited, Bun.sleep(30_000)]);
  if (status === undefined) {
    daemon.kill("SIGKILL");
    throw new Error(`${at.join(" ")} was never reached: ${JSON.stringify(answer)}`);
  }
  expect(daemon.signalCode).toBe("SIGKILL");
}

/** What must hold after the next start, whatever happened before it. */
async function expectNothingLeaked(): Promise<void> {
  const vms = await others();
  const known = new Set([...vms.map(({ id }) => id), bystander.id]);
  for (const dir of [join(home.stateDir, "vms"), join(home.runtimeDir, "vms")]) {
    expect((await list(dir)).filter((name) => !known.has(name))).toEqual([]);
  }
  const monitors = (await home.processes()).filter(({ commandLine }) => commandLine.includes("qemu-system"));
  const running = vms.filter(({ state }) => state === "running");
  expect(monitors.map(({ pid }) => pid).toSorted()).toEqual(
    [...running, bystander].map(({ pid }) => pid ?? -1).toSorted(),
  );
  for (const vm of vms) expect(["created", "stopped", "running"]).toContain(vm.state);
  expect(await home.json<unknown[]>(["gc", "--dry-run"])).toEqual([]);
  expect(await show("bystander")).toMatchObject({ state: "running", pid: bystander.pid, bootId: bystander.bootId });
}

describe("killed during create", () => {
  test.each([...points("create", names(createSteps)), ...points("start", names(startSteps))])(
    "at %s %s %s: the create is undone",
    async (operation, step, phase) => {
      const at = [operation, step, phase];
      await dieAt(at, "vm.create", { name: "fresh", spec: { memoryMiB: 512 }, start: true });
      expect(await others()).toEqual([]);
      await expectNothingLeaked();
    },
    300_000,
  );
});

describe("killed during start", () => {
  beforeAll(async () => {
    await home.ok(["vm", "create", "--name", "sleeper", "--no-start", "--memory", "512M"]);
  });
  test.each(points("start", names(startSteps)))(
    "at %s %s %s: the VM is stopped",
    async (operation, step, phase) => {
      const at = [operation, step, phase];
      await dieAt(at, "vm.start", { vms: ["sleeper"] });
      expect(await show("sleeper")).toMatchObject({ state: "stopped", pid: null });
      await expectNothingLeaked();
    },
    300_000,
  );
  test("and it can be started afterwards", async () => {
    await home.ok(["vm", "start", "sleeper"], { timeoutMs: 300_000 });
    expect(await home.ok(["vm", "exec", "sleeper", "--", "hostname"])).toBe("sleeper\n");
  }, 300_000);
});

describe("killed during stop", () => {
  test.each(points("stop", ["guest-poweroff", ...undone(startSteps)]))(
    "at %s %s %s: the stop is finished",
    async (operation, step, phase) => {
      const at = [operation, step, phase];
      if ((await show("sleeper")).state !== "running")
        await home.ok(["vm", "start", "sleeper"], { timeoutMs: 300_000 });
      await home.ok([
        "vm",
        "exec",
        "sleeper",
        "--",
        "sh",
        "-c",
        `echo ${at.join("-").replaceAll(" ", "_")} > /root/kept`,
      ]);
      await dieAt(at, "vm.stop", { vms: ["sleeper"] });
      await eventually("stopped", 120_000, async () => (await show("sleeper")).state === "stopped");
      await expectNothingLeaked();
    },
    400_000,
  );
  test("and what the guest wrote before the last one is there", async () => {
    await home.ok(["vm", "start", "sleeper"], { timeoutMs: 300_000 });
    expect(await home.ok(["vm", "exec", "sleeper", "--", "cat", "/root/kept"])).toBe(
      "stop-undo_runtime-directory-done\n",
    );
    await home.ok(["vm", "delete", "sleeper"], { timeoutMs: 120_000 });
  }, 400_000);
});

describe("killed during delete", () => {
  test.each(points("delete", undone([...createSteps, ...startSteps])))(
    "at %s %s %s: the delete is finished",
    async (operation, step, phase) => {
      const at = [operation, step, phase];
      await home.ok(["vm", "create", "--name", "doomed", "--no-start"]);
      await dieAt(at, "vm.delete", { vms: ["doomed"] });
      expect(await others()).toEqual([]);
      await expectNothingLeaked();
    },
    120_000,
  );
});

describe("lost records", () => {
  test("a lost database: every VM is found again, and the running one is adopted", async () => {
    await home.ok(["vm", "create", "--name", "stored", "--no-start"]);
    const before = await home.json<Vm[]>(["vm", "list", "-a"]);
    process.kill((await home.daemonPid()) ?? 0, "SIGKILL");
    for (const suffix of ["", "-wal", "-shm"])
      await Bun.file(join(home.stateDir, `banger.db${suffix}`))
        .delete()
        .catch(() => undefined);
    const after = await home.json<Vm[]>(["vm", "list", "-a"]);
    expect(after.map(({ id, name, state }) => ({ id, name, state }))).toEqual(
      before.map(({ id, name, state }) => ({ id, name, state })),
    );
    await expectNothingLeaked();
  });

  test("a damaged database is moved aside, and every VM is found again", async () => {
    process.kill((await home.daemonPid()) ?? 0, "SIGKILL");
    await Bun.write(
      join(home.stateDir, "banger.db"),
      "not a database at all, but long enough to be read as one".repeat(100),
    );
    for (const suffix of ["-wal", "-shm"])
      await Bun.file(join(home.stateDir, `banger.db${suffix}`))
        .delete()
        .catch(() => undefined);
    expect((await others()).map(({ name }) => name)).toEqual(["stored"]);
    expect((await list(home.stateDir)).some((name) => name.startsWith("banger.db.damaged-"))).toBe(true);
    await expectNothingLeaked();
  });

  test("a lost runtime directory (a logout): the next command starts a daemon that reaches the guest again", async () => {
    await rm(home.runtimeDir, { recursive: true, force: true });
    expect((await others()).map(({ name }) => name)).toEqual(["stored"]);
    expect(await home.ok(["vm", "exec", "bystander", "--", "hostname"])).toBe("bystander\n");
    await expectNothingLeaked();
  });

  test("a lost handles file changes nothing", async () => {
    await Bun.file(join(home.stateDir, "vms", bystander.id, "handles.json")).delete();
    process.kill((await home.daemonPid()) ?? 0, "SIGKILL");
    expect((await others()).map(({ name }) => name)).toEqual(["stored"]);
    await expectNothingLeaked();
  });
});
