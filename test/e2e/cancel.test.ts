/** Ctrl-c, hang-up and bad input during create: nothing may be left of the attempt. */

import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { existsSync } from "node:fs";
import { readdir } from "node:fs/promises";
import { join } from "node:path";
import { eventually, type Home, makeHomeWithImage } from "../support/banger.ts";

let home: Home;
beforeAll(async () => {
  home = await makeHomeWithImage();
}, 900_000);
afterAll(async () => {
  await home[Symbol.asyncDispose]();
});

async function list(dir: string): Promise<string[]> {
  return existsSync(dir) ? await readdir(dir) : [];
}

async function expectNothingLeft(): Promise<void> {
  expect(await home.json<unknown[]>(["vm", "list", "-a"])).toEqual([]);
  expect(await list(join(home.stateDir, "vms"))).toEqual([]);
  expect(await list(join(home.runtimeDir, "vms"))).toEqual([]);
  expect((await home.processes()).filter(({ commandLine }) => /qemu|ssh/.test(commandLine))).toEqual([]);
  expect(await home.json<unknown[]>(["gc", "--dry-run"])).toEqual([]);
}

/** Runs a create, sends `signal` once `when` has been said on stderr, and returns the status. */
async function interrupt(signal: NodeJS.Signals, when: RegExp): Promise<number> {
  const child = home.spawn(["vm", "run", "--", "true"]);
  let said = "";
  const reading = (async () => {
    for await (const chunk of child.stderr) said += new TextDecoder().decode(chunk);
  })();
  await eventually(`${when} in: ${said}`, 60_000, () => when.test(said));
  child.kill(signal);
  const status = await child.exited;
  await reading;
  return status;
}

describe("an interrupted create", () => {
  test.each([
    ["SIGINT", /./],
    ["SIGINT", /Creating disks/],
    ["SIGINT", /Waiting for the guest/],
    ["SIGTERM", /Booting/],
  ] as const)(
    "by %s at %p fails and leaves nothing",
    async (signal, when) => {
      const status = await interrupt(signal, when);
      expect(status).toBe(signal === "SIGINT" ? 130 : 143);
      await expectNothingLeft();
    },
    120_000,
  );

  test("whose client is killed with -9 is undone by the daemon", async () => {
    await interrupt("SIGKILL", /Booting/);
    await eventually(
      "the row is gone",
      30_000,
      async () => (await home.json<unknown[]>(["vm", "list", "-a"])).length === 0,
    );
    await expectNothingLeft();
  }, 120_000);
});

describe("a refused create leaves no record", () => {
  test.each([
    [["--name", "Bad_Name"], 2],
    [["--name", "-lead"], 2],
    [["--name", "$(id)"], 2],
    [["--name", "a".repeat(64)], 2],
    [["--memory", "lots"], 2],
    [["--vcpu", "0"], 2],
    [["--disk-size", "-1G"], 2],
    [["--image", "../../etc"], 2],
    [["--image", "no-such-image"], 20],
    [["--rm", "-d"], 2],
    [["-d", "--", "true"], 2],
  ])("vm run %p", async (flags, status) => {
    const args = flags.includes("--")
      ? ["vm", "run", ...flags]
      : ["vm", "run", ...flags, ...(flags.includes("-d") ? [] : ["--", "true"])];
    const result = await home.run(args);
    // Before the guest command could run, `run --` answers 125; the code in the message has the row's own status.
    expect([status, 125]).toContain(result.status);
    expect(result.stderr).toMatch(/^error: .*\[[A-Z_]+\]/m);
    await expectNothingLeft();
  });
});
