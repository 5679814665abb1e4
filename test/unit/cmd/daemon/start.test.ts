/** The checkout's own daemon, started by the checkout's own commands, in environments as cron, su and a desktop give them. */

import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { existsSync } from "node:fs";
import { chmod, cp, mkdir, mkdtemp, readlink, rm, writeFile } from "node:fs/promises";
import { join, resolve } from "node:path";

const MAIN = resolve(import.meta.dir, "../../../../src/main.ts");
const isRoot = process.getuid?.() === 0;
const NOBODY = 65_534;
if (!isRoot) console.error("skip: su to another user needs root");

interface Answer {
  readonly status: number;
  readonly stdout: string;
  readonly stderr: string;
}

let base: string;
/** Homes whose daemons end with the test. */
const homes = new Set<string>();

beforeEach(async () => {
  base = await mkdtemp("/tmp/bt-s-");
  for (const name of ["home", "other", "run"]) await mkdir(join(base, name), { mode: 0o700 });
});
afterEach(async () => {
  for (const home of homes) {
    await banger(home, {}, "daemon", "stop");
    const runtime = await readlink(stateOf(home) + "/runtime").catch(() => null);
    if (runtime !== null) await rm(runtime, { recursive: true, force: true });
  }
  homes.clear();
  await rm(base, { recursive: true, force: true });
});

const stateOf = (home: string): string => join(home, ".local/state/banger");

async function banger(
  home: string,
  { runtime, uid }: { readonly runtime?: string; readonly uid?: number },
  ...argv: readonly string[]
): Promise<Answer> {
  homes.add(home);
  const child = Bun.spawn([process.execPath, MAIN, ...argv], {
    cwd: "/",
    env: {
      HOME: home,
      PATH: process.env["PATH"] ?? "",
      ...(runtime === undefined ? {} : { XDG_RUNTIME_DIR: runtime }),
    },
    ...(uid === undefined ? {} : { uid, gid: uid }),
    stdin: "ignore",
    stdout: "pipe",
    stderr: "pipe",
  });
  const [stdout, stderr, status] = await Promise.all([
    new Response(child.stdout).text(),
    new Response(child.stderr).text(),
    child.exited,
  ]);
  return { status, stdout, stderr };
}

async function daemonOf(
  home: string,
  runtime?: string,
): Promise<{ readonly pid: number | null; readonly stateDir: string }> {
  const { stdout } = await banger(home, runtime === undefined ? {} : { runtime }, "daemon", "status", "--json");
  return JSON.parse(stdout) as { pid: number | null; stateDir: string };
}

describe("one state directory has one daemon, found through it", () => {
  test("started without XDG_RUNTIME_DIR, asked with it, with another, and without", async () => {
    const home = join(base, "home");
    expect(await banger(home, {}, "ps")).toMatchObject({ status: 0 });
    const { pid } = await daemonOf(home);
    expect(pid).not.toBeNull();
    for (const runtime of [join(base, "run"), "/run/user/0", "/nowhere"]) {
      expect(await banger(home, { runtime }, "ps")).toMatchObject({ status: 0 });
      expect((await daemonOf(home, runtime)).pid).toBe(pid);
    }
    expect(await banger(home, { runtime: join(base, "run") }, "daemon", "stop")).toMatchObject({ status: 0 });
    expect((await daemonOf(home)).pid).toBeNull();
  }, 60_000);

  test("of many commands at once, in different environments, all reach the same one", async () => {
    const home = join(base, "home");
    const runtimes = [join(base, "run"), join(base, "other"), undefined];
    const answers = await Promise.all(
      Array.from({ length: 6 }, async (_, index) => {
        const runtime = runtimes[index % runtimes.length];
        return await banger(home, runtime === undefined ? {} : { runtime }, "ps");
      }),
    );
    expect(answers.map(({ status, stderr }) => [status, stderr])).toEqual(answers.map(() => [0, ""]));
    const pids = await Promise.all(runtimes.map(async (runtime) => (await daemonOf(home, runtime)).pid));
    expect(new Set(pids).size).toBe(1);
  }, 60_000);
});

describe("two states never share a daemon", () => {
  test.each([
    ["without XDG_RUNTIME_DIR", false],
    ["with the same XDG_RUNTIME_DIR", true],
  ])(
    "%s: two homes of one user",
    async (_, isSet) => {
      const at = isSet ? { runtime: join(base, "run") } : {};
      const [home, other] = [join(base, "home"), join(base, "other")];
      for (const each of [home, other]) expect(await banger(each, at, "ps")).toMatchObject({ status: 0 });
      const [first, second] = [await daemonOf(home, at.runtime), await daemonOf(other, at.runtime)];
      expect(first.pid).not.toBe(second.pid);
      expect([first.stateDir, second.stateDir]).toEqual([stateOf(home), stateOf(other)]);
    },
    60_000,
  );

  test("a copied home has a daemon of its own", async () => {
    const [home, copy] = [join(base, "home"), join(base, "copy")];
    expect(await banger(home, {}, "ps")).toMatchObject({ status: 0 });
    await cp(home, copy, { recursive: true, verbatimSymlinks: true });
    expect((await daemonOf(copy)).pid).toBeNull();
    expect(await banger(copy, {}, "ps")).toMatchObject({ status: 0 });
    expect((await daemonOf(copy)).stateDir).toBe(stateOf(copy));
  }, 60_000);
});

describe("what keeps a daemon from starting is told", () => {
  test("its own reason, though standard error can't be kept", async () => {
    const home = join(base, "home");
    await mkdir(stateOf(home), { recursive: true, mode: 0o700 });
    await mkdir(join(home, ".config/banger"), { recursive: true });
    await writeFile(join(home, ".config/banger/config.toml"), '[vm_defaults]\ndisk_size = "1M"\n');
    const answer = await banger(home, {}, "ps");
    expect(answer.stderr).toContain("vm_defaults.disk_size must be a size from 64 MiB");
    expect(answer.status).toBe(2);
    // A link would send what is said elsewhere; without the file the reason still arrives.
    await Bun.file(join(stateOf(home), "daemon.stderr")).delete();
    await Bun.spawn(["ln", "-s", "/nowhere", join(stateOf(home), "daemon.stderr")]).exited;
    expect(await banger(home, {}, "ps")).toMatchObject({ status: 2, stderr: answer.stderr });
  }, 60_000);

  test("a store of a later banger", async () => {
    const home = join(base, "home");
    expect(await banger(home, {}, "ps")).toMatchObject({ status: 0 });
    await banger(home, {}, "daemon", "stop");
    const { Database } = await import("bun:sqlite");
    const db = new Database(join(stateOf(home), "banger.db"));
    db.run("PRAGMA user_version = 99");
    db.close();
    const answer = await banger(home, {}, "ps");
    expect(answer.status).toBe(52);
    expect(answer.stderr).toContain("[STORE_TOO_NEW]");
  }, 60_000);

  test.skipIf(!isRoot)(
    "after su: XDG_RUNTIME_DIR of the user before (needs root)",
    async () => {
      const home = join(base, "other");
      for (const dir of [base, home]) await chmod(dir, 0o755);
      await Bun.spawn(["chown", String(NOBODY), home]).exited;
      const runtime = join(base, "run");
      const answer = await banger(home, { runtime, uid: NOBODY }, "ps");
      expect(answer.status).toBe(14);
      expect(answer.stderr).toContain(
        `${runtime} belongs to uid 0, with mode 700, and you are uid ${NOBODY} [NO_ACCESS]\ntry: unset XDG_RUNTIME_DIR\n`,
      );
      // Where the other user has none, the directory above it can't be written either.
      const missing = await banger(home, { runtime: join(base, "gone"), uid: NOBODY }, "ps");
      expect(missing).toMatchObject({
        status: 14,
        stderr: expect.stringMatching(/ belongs to uid 0, .* \[NO_ACCESS\]\ntry: unset XDG_RUNTIME_DIR\n$/),
      });
      // With another user's home, the variable is not the cause.
      const locked = await banger(join(base, "home"), { uid: NOBODY }, "ps");
      expect(locked).toMatchObject({
        status: 14,
        stderr: expect.stringContaining(`\ntry: ls -ld ${join(base, "home")}`),
      });
      // A daemon that runs is found all the same.
      expect(await banger(home, { uid: NOBODY }, "ps")).toMatchObject({ status: 0, stderr: "" });
      expect(await banger(home, { runtime, uid: NOBODY }, "ps")).toMatchObject({ status: 0, stderr: "" });
      expect(await banger(home, { runtime, uid: NOBODY }, "daemon", "stop")).toMatchObject({ status: 0 });
      const left = await readlink(join(stateOf(home), "runtime"));
      expect(existsSync(join(left, "bangerd.sock"))).toBe(false);
    },
    60_000,
  );
});
