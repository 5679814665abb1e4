/** How a copy through the agent ends when it doesn't come to its own end; and what it leaves behind of attributes. The "guest" is this machine. */

import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "bun:test";
import { chmod, mkdir, readdir, readFile, writeFile } from "node:fs/promises";
import { join, resolve } from "node:path";
import { startAgent, type TestAgent } from "../../../../support/agent.ts";
import { eventually } from "../../../../support/banger.ts";
import { type FakeDaemon, startFakeDaemon } from "../../../../support/fake-daemon.ts";
import { makeArchive, makePax } from "../../../../support/tar.ts";

const ENDS_WITHIN_MS = 20_000;

let agent: TestAgent;
let daemon: FakeDaemon;
let target: string;
beforeAll(async () => {
  agent = await startAgent();
});
afterAll(async () => await agent[Symbol.asyncDispose]());
beforeEach(async () => {
  daemon = await startFakeDaemon();
  await daemon.actAsAgentGuest(agent.socket);
  target = join(daemon.dir, "target");
  await mkdir(target);
});
afterEach(async () => await daemon[Symbol.asyncDispose]());

/** A copy in whose packer stops in the middle, once the guest's tar has something. */
async function startStuck(): Promise<Bun.Subprocess<"ignore", "ignore", "pipe">> {
  const bin = join(daemon.dir, "bin");
  await mkdir(bin);
  await writeFile(
    join(bin, "tar"),
    '#!/bin/sh\n/usr/bin/tar "$@" | head -c 200000\nexec tail -f --pid=$PPID /dev/null\n',
  );
  await chmod(join(bin, "tar"), 0o755);
  await writeFile(join(daemon.dir, "big"), "x".repeat(300_000));
  const child = Bun.spawn([process.execPath, resolve("src/main.ts"), "cp", join(daemon.dir, "big"), `box:${target}`], {
    env: { ...daemon.env, PATH: `${bin}:${daemon.env["PATH"]}` },
    stdin: "ignore",
    stdout: "ignore",
    stderr: "pipe",
  });
  await eventually("the guest unpacks", ENDS_WITHIN_MS, async () => {
    const files = await readdir(target, { recursive: true });
    return files.some((name) => name.endsWith("/big"));
  });
  return child;
}

const expectNothing = async (): Promise<void> =>
  await eventually("nothing is left in the guest", ENDS_WITHIN_MS, async () => (await readdir(target)).length === 0);

describe("a copy into a guest leaves nothing there when", () => {
  test.each([
    ["it is interrupted", "SIGINT", 130],
    ["banger is killed", "SIGKILL", 137],
  ] as const)("%s", async (_, signal, status) => {
    const child = await startStuck();
    child.kill(signal);
    expect((await child.exited) % 256).toBe(status);
    await expectNothing();
  });
});

test("if the agent's process for a copy is killed, banger says so, and nothing stands under the final name", async () => {
  const child = await startStuck();
  const sessions = await readFile(`/proc/${agent.pid}/task/${agent.pid}/children`, "utf8");
  for (const pid of sessions.trim().split(" ")) process.kill(Number(pid), "SIGKILL");
  expect(await new Response(child.stderr).text()).toMatch(/^error: .*\[EXEC_FAILED\]/);
  expect(await readdir(target)).not.toContain("big");
});

/** What tar keeps of the attributes of a file. */
const attributesOf = (dir: string, name: string): string[] =>
  Bun.spawnSync(["tar", "-c", "--xattrs", "--xattrs-include=*", "--format=pax", "-C", dir, name])
    .stdout.toString("latin1")
    .match(/SCHILY\.xattr\.user\.[^\n]*/g) ?? [];

describe("attributes", () => {
  test("that users set are kept, in and out", async () => {
    const archive = makeArchive([makePax({ "SCHILY.xattr.user.note": "a b" }), { name: "noted", data: "x" }]);
    const unpack = ["tar", "-x", "--xattrs", "--xattrs-include=*", "-C", daemon.dir];
    expect(Bun.spawnSync(unpack, { stdin: archive }).exitCode).toBe(0);
    const kept = attributesOf(daemon.dir, "noted");
    // Empty where the file system has none: then the copies have none either.
    for (const words of [
      [join(daemon.dir, "noted"), `box:${target}/in`],
      [`box:${target}/in`, join(target, "out")],
    ])
      expect(await daemon.run(["cp", ...words])).toEqual({ status: 0, stdout: "", stderr: "" });
    expect(attributesOf(target, "in")).toEqual(kept);
    expect(attributesOf(target, "out")).toEqual(kept);
  });

  test("that an overlay or a container's tools obey are left in the guest", async () => {
    const guest = await startFakeDaemon();
    const [hostile, plain] = ["SCHILY.xattr.user.overlay.redirect", "SCHILY.xattr.user.note"];
    const system = { "SCHILY.xattr.security.capability": "x", "SCHILY.xattr.trusted.overlay.opaque": "y" };
    const archive = makeArchive([
      makePax({ ...system, [hostile]: "/etc", [plain]: "b" }),
      { name: "asked", data: "x" },
    ]);
    await writeFile(join(guest.dir, "stream"), archive);
    await guest.actAsGuest(`exec cat ${join(guest.dir, "stream")}`);
    const child = guest.spawn(["cp", "box:/x/asked", "-"]);
    const stream = Buffer.from(await new Response(child.stdout).bytes()).toString("latin1");
    expect(stream.match(/SCHILY\.[^=]*/g)).toEqual([plain]);
    await guest[Symbol.asyncDispose]();
  });
});
