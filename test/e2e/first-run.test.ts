/** The main job on a machine with nothing of ours on it: one command, a real guest, its exit status. */

import { afterAll, beforeAll, expect, test } from "bun:test";
import { existsSync } from "node:fs";
import { readdir } from "node:fs/promises";
import { join } from "node:path";
import { type Home, keepImages, makeHome } from "../support/banger.ts";

let home: Home;
beforeAll(async () => {
  home = await makeHome();
});
afterAll(async () => {
  await home[Symbol.asyncDispose]();
});

test("the first command of a new user builds the image, boots and prints the guest's uname", async () => {
  const result = await home.run(["vm", "run", "--rm", "--", "uname", "-a"], { timeoutMs: 900_000 });
  expect({ status: result.status, stderr: result.status === 0 ? "" : result.stderr }).toEqual({
    status: 0,
    stderr: "",
  });
  expect(result.stdout).toStartWith("Linux ");
  expect(result.stdout.trim().split("\n")).toHaveLength(1);
  await keepImages(home);
}, 900_000);

test("--rm left no VM, file, process or socket", async () => {
  expect(await home.json<unknown[]>(["vm", "list", "-a"])).toEqual([]);
  expect(await readdir(join(home.stateDir, "vms"))).toEqual([]);
  expect(existsSync(join(home.runtimeDir, "vms")) ? await readdir(join(home.runtimeDir, "vms")) : []).toEqual([]);
  expect((await home.processes()).filter(({ commandLine }) => commandLine.includes("qemu"))).toEqual([]);
});

test("the guest command's status is the exit status", async () => {
  const result = await home.run(["vm", "run", "--rm", "--", "sh", "-c", "exit 42"], { timeoutMs: 300_000 });
  expect(result.status).toBe(42);
  expect(result.stdout).toBe("");
}, 300_000);

test("daemon stop ends the daemon and leaves nothing listening", async () => {
  await home.ok(["daemon", "stop"]);
  expect(await readdir(home.runtimeDir)).not.toContain("bangerd.sock");
  expect((await home.processes()).map(({ commandLine }) => commandLine)).toEqual([]);
});
