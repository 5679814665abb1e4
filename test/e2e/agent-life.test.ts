/** The agent in a running guest: found again by the next daemon, done without when the guest's root killed it, back after a restart. */

import { afterAll, beforeAll, expect, test } from "bun:test";
import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { eventually, type Home, makeHomeWithImage } from "../support/banger.ts";

interface Vm {
  readonly state: string;
  readonly bootId: string | null;
  readonly agent: "answers" | "silent" | null;
}
interface Row {
  readonly check: string;
  readonly level: string;
  readonly message: string;
  readonly fix: string | null;
}

const BOOT = { timeoutMs: 400_000 };
const TEST_TIMEOUT_MS = 1_200_000;

let home: Home;
beforeAll(async () => {
  home = await makeHomeWithImage();
  await home.ok(["vm", "run", "-d", "--name", "box"], BOOT);
}, 1_300_000);
afterAll(async () => await home[Symbol.asyncDispose]());

const show = async (): Promise<Vm> => await home.json<Vm>(["vm", "show", "box"]);
const agentRow = async (): Promise<Row | undefined> => {
  const { stdout } = await home.run(["doctor", "--json"], BOOT);
  return (JSON.parse(stdout) as readonly Row[]).find(({ check }) => check === "guest agents");
};
const isSshOpen = async (): Promise<boolean> =>
  (await home.processes()).some(({ commandLine }) => commandLine.startsWith("ssh ") && commandLine.includes(" -M "));

test("a guest is ready by its agent's word, and nothing of it needs ssh until somebody does", async () => {
  expect(await show()).toMatchObject({ state: "running", agent: "answers" });
  const inside = await home.ok(["exec", "box", "--", "cat", "/proc/sys/kernel/random/boot_id"]);
  expect(inside.trim()).toBe((await show()).bootId ?? "");
  const [stats] = await home.json<readonly { rxBytes: number | null }[]>(["vm", "stats", "box"]);
  expect(stats?.rxBytes).toBeNumber();
  await home.ok(["vm", "ports", "box"]);
  expect(await isSshOpen()).toBe(false);
  expect(await home.ok(["vm", "ssh", "box", "--", "echo", "hi"], BOOT)).toBe("hi\n");
  expect(await isSshOpen()).toBe(true);
});

test("an exec outlives the daemon, whose successor finds the agent again", async () => {
  const fifo = "/run/go";
  await home.ok(["exec", "box", "--", "mkfifo", fifo]);
  const exec = home.spawn(["exec", "box", "--", "sh", "-c", `echo before; cat ${fifo}; echo after; exit 7`]);
  const output = new Response(exec.stdout).text();
  const pid = await home.daemonPid();
  process.kill(pid ?? -1, "SIGKILL");
  expect(await show()).toMatchObject({ state: "running", agent: "answers" });
  await home.ok(["exec", "box", "--", "sh", "-c", `echo between > ${fifo}`]);
  expect([await exec.exited, await output]).toEqual([7, "before\nbetween\nafter\n"]);
});

test(
  "killed by the guest's root, it is named, and everything goes on over ssh; a restart brings it back",
  async () => {
    expect(await agentRow()).toMatchObject({ level: "PASS" });
    // Away from the exec whose agent goes with it.
    await home.ok(["vm", "ssh", "box", "--", "pkill", "-9", "-f", "^@banger-agent"], BOOT);
    expect(await home.ok(["exec", "box", "--", "echo", "works"], BOOT)).toBe("works\n");
    await eventually("the agent is known to be silent", 60_000, async () => (await show()).agent === "silent");
    const [from, to] = [join(home.dir, "from"), join(home.dir, "to")];
    await writeFile(from, "copied\n");
    await home.ok(["cp", from, "box:/root/there"], BOOT);
    await home.ok(["cp", "box:/root/there", to], BOOT);
    expect(await readFile(to, "utf8")).toBe("copied\n");
    const [stats] = await home.json<readonly { rxBytes: number | null }[]>(["vm", "stats", "box"], BOOT);
    expect(stats?.rxBytes).toBeNumber();
    expect(await agentRow()).toMatchObject({ level: "WARN", fix: "banger vm restart box" });

    await home.ok(["vm", "restart", "box"], BOOT);
    expect(await show()).toMatchObject({ state: "running", agent: "answers" });
    expect(await agentRow()).toMatchObject({ level: "PASS" });
    expect(await home.ok(["exec", "box", "--", "cat", "/root/there"])).toBe("copied\n");
  },
  TEST_TIMEOUT_MS,
);

test("a session that is killed in the guest is over on the host", async () => {
  const result = await home.run(["exec", "box", "--", "sh", "-c", "kill -9 $PPID"]);
  expect(result).toMatchObject({ status: 125, stderr: expect.stringContaining("the connection to box was lost") });
  expect(await home.ok(["exec", "box", "--", "echo", "next"])).toBe("next\n");
});
