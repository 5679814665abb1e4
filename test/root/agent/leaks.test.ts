/** Many commands, one after another and at once, leave nothing: no process, descriptor or cgroup. On the sanitizer build. */

import { afterAll, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import {
  openSession,
  readToEnd,
  runCommand,
  sendExec,
  startAgent,
  type TestAgent,
  waitUntil,
} from "../../support/agent.ts";

if (process.env["BANGER_TEST_ROOT"] !== "1") throw new Error("these tests run in namespaces: bun test/root/run.ts");

setDefaultTimeout(300_000);

const SEQUENTIAL = 2000;
const CONCURRENT = 50;
const V2 = existsSync("/sys/fs/cgroup/cgroup.procs") ? "/sys/fs/cgroup" : "/sys/fs/cgroup/unified";
const CGROUPS = join(V2, "banger");

let agent: TestAgent;
beforeAll(async () => {
  // Freed memory is otherwise kept for a while, to find its use.
  agent = await startAgent({ env: { ASAN_OPTIONS: "detect_leaks=0:quarantine_size_mb=0" } });
});
afterAll(async () => await agent[Symbol.asyncDispose]());

const descriptors = (): number => readdirSync(`/proc/${agent.pid}/fd`).length;
const children = (): string => readFileSync(`/proc/${agent.pid}/task/${agent.pid}/children`, "utf8").trim();
const memoryKib = (): number => Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${agent.pid}/status`, "utf8"))?.[1]);
/** A command's cgroup, by its path: other tests on this machine have some too. Empty where there is no cgroup v2. */
const cgroupIn = (stdout: Buffer): string => {
  const [, path] = /^0::(.*\/banger\/exec-.*)$/m.exec(stdout.toString()) ?? [];
  return path === undefined ? "" : join(V2, path);
};

/** Runs a command that says in which cgroup it is. */
async function runOne(): Promise<string> {
  const { stdout, last } = await runCommand(agent, { argv: ["cat", "/proc/self/cgroup"], flags: ["noStdin"] });
  expect(last).toMatchObject({ name: "exited", fields: { status: 0 } });
  return cgroupIn(stdout);
}

async function expectNothingLeft(cgroups: ReadonlySet<string>, before: number): Promise<void> {
  await waitUntil("every session has ended", () => children() === "");
  await waitUntil("every cgroup is removed", () => ![...cgroups].some((path) => existsSync(path)));
  expect(descriptors()).toBe(before);
}

test(`${SEQUENTIAL} commands one after another`, async () => {
  const cgroups = new Set<string>([await runOne()]);
  const before = descriptors();
  const memory = memoryKib();
  for (let i = 0; i < SEQUENTIAL; i++) cgroups.add(await runOne());
  // Where there is cgroup v2, each command was in one of its own.
  if (existsSync(CGROUPS)) expect(cgroups.size).toBeGreaterThan(SEQUENTIAL / 2);
  await expectNothingLeft(cgroups, before);
  expect(memoryKib() - memory).toBeLessThan(1024);
});

test(`${CONCURRENT} commands at once`, async () => {
  const before = descriptors();
  const cgroups = new Set<string>();
  const all = Array.from({ length: CONCURRENT }, async (_, i) => {
    const session = await openSession(agent);
    sendExec(session, { argv: ["/bin/sh", "-c", `cat /proc/self/cgroup; cat; exit ${i}`] });
    session.send("stdin", {}, `input ${i}`);
    return session;
  });
  const opened = await Promise.all(all);
  // They all run before the first of them ends.
  for (const session of opened) await session.expect("started");
  for (const session of opened) session.send("stdinEnd");
  const ran = await Promise.all(opened.map(async (session) => await readToEnd(session)));
  ran.forEach(({ stdout, last }, i) => {
    expect(stdout.toString()).toEndWith(`input ${i}`);
    expect(last?.fields["status"]).toBe(i);
    cgroups.add(cgroupIn(stdout));
  });
  for (const session of opened) session.close();
  await expectNothingLeft(cgroups, before);
});

test("more sessions than there may be at once: the rest is turned away, and served later", async () => {
  const before = descriptors();
  const held = await Promise.all(Array.from({ length: 256 }, async () => await openSession(agent)));
  await expect(openSession(agent)).rejects.toThrow("no answer");
  for (const session of held) session.close();
  await waitUntil("every session has ended", () => children() === "");
  await runOne();
  await expectNothingLeft(new Set(), before);
});

test("a cgroup in which something stayed is removed once that has ended", async () => {
  const { stdout } = await runCommand(agent, {
    argv: ["/bin/sh", "-c", "cat /proc/self/cgroup; sleep 1000 & echo $!"],
  });
  process.kill(Number(/(\d+)\n$/.exec(stdout.toString())?.[1]), "SIGKILL");
  await waitUntil("the next session's end removes it", async () => {
    await runOne();
    return !existsSync(cgroupIn(stdout));
  });
});
