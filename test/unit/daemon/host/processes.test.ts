import { expect, test } from "bun:test";
import { copyFile, mkdtemp, rm } from "node:fs/promises";
import { join } from "node:path";
import {
  findProcesses,
  identifyProcess,
  isAlive,
  killProcess,
  signalProcess,
  waitUntilGone,
} from "../../../../src/daemon/host/processes.ts";

test("a process is found by its argv, and is gone after the kill", async () => {
  const child = Bun.spawn(["sleep", "4713.1"]);
  const [found, ...more] = await findProcesses((argv) => argv[1] === "4713.1");
  expect(more).toEqual([]);
  expect(found?.pid).toBe(child.pid);
  if (found === undefined) throw new Error("not found");
  expect(await isAlive(found)).toBe(true);
  await killProcess(found);
  expect(await isAlive(found)).toBe(false);
  await child.exited;
});

test("brackets and blanks in a command name don't shift the fields", async () => {
  const dir = await mkdtemp("/tmp/banger-proc-");
  try {
    const odd = join(dir, "a) R 1 (b");
    await copyFile("/bin/sleep", odd);
    const plain = Bun.spawn(["sleep", "60"]);
    const child = Bun.spawn([odd, "60"]);
    const identity = await identifyProcess(child.pid);
    const neighbour = await identifyProcess(plain.pid);
    // Started within the same second (100 ticks) by this test.
    expect(Math.abs(Number(identity?.startTicks) - Number(neighbour?.startTicks))).toBeLessThan(100);
    child.kill("SIGKILL");
    plain.kill("SIGKILL");
    await Promise.all([child.exited, plain.exited]);
  } finally {
    await rm(dir, { recursive: true });
  }
});

test("the same pid with another start time is another process, and is not signalled", async () => {
  const child = Bun.spawn(["sleep", "60"]);
  const identity = await identifyProcess(child.pid);
  const impostor = { pid: child.pid, startTicks: String(Number(identity?.startTicks) + 1) };
  expect(await isAlive(impostor)).toBe(false);
  await signalProcess(impostor, "SIGKILL");
  await killProcess(impostor);
  expect(child.exitCode).toBeNull();
  child.kill("SIGKILL");
  await child.exited;
});

test("waiting for one that stays is false at the deadline", async () => {
  const child = Bun.spawn(["sleep", "60"]);
  const identity = await identifyProcess(child.pid);
  if (identity === null) throw new Error("not started");
  expect(await waitUntilGone(identity, 50)).toBe(false);
  child.kill("SIGKILL");
  expect(await waitUntilGone(identity, 5000)).toBe(true);
});
