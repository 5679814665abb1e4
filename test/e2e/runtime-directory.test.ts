/**
 * The rules of the runtime directory, attacked: whoever may write /tmp must not be able to place, read or
 * redirect a socket of somebody else's daemon.
 */

import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { chmod, chown, lstat, mkdir, readdir, rename, rm, symlink, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { chooseRuntimeDir } from "../../src/shared/places/runtime-directory.ts";
import { BANGER, eventually, type Home, makeHome } from "../support/banger.ts";

const isRoot = process.getuid?.() === 0;
const NOBODY = 65534;
if (!isRoot) console.error("skip: the attacks by a second uid need root to start a process as that uid");

let home: Home;
beforeAll(async () => {
  home = await makeHome();
});
afterAll(async () => {
  await home[Symbol.asyncDispose]();
});

async function freshRuntimeDir(): Promise<string> {
  await home.run(["daemon", "stop"]);
  await rm(home.runtimeDir, { recursive: true, force: true });
  return home.runtimeDir;
}

describe("the daemon refuses", () => {
  test("a link in place of the directory, and leaves the link's target alone", async () => {
    const dir = await freshRuntimeDir();
    const target = join(home.dir, "elsewhere");
    await mkdir(target, { mode: 0o755 });
    await symlink(target, dir);
    const result = await home.run(["ps"]);
    expect(result.status).toBe(12);
    expect(result.stderr).toContain("[UNSAFE_DIRECTORY]");
    expect(await readdir(target)).toEqual([]);
    expect((await lstat(target)).mode & 0o777).toBe(0o755);
    await rm(dir);
  });

  test("a file in place of the directory", async () => {
    const dir = await freshRuntimeDir();
    await writeFile(dir, "");
    expect((await home.run(["ps"])).status).toBe(12);
    await rm(dir);
  });

  test.skipIf(!isRoot)("a directory of another user (needs root)", async () => {
    const dir = await freshRuntimeDir();
    await mkdir(dir, { mode: 0o700 });
    await chown(dir, NOBODY, NOBODY);
    const result = await home.run(["ps"]);
    expect(result.status).toBe(12);
    expect(result.stderr).toContain("[UNSAFE_DIRECTORY]");
    expect(await readdir(dir)).toEqual([]);
    await rm(dir, { recursive: true });
  });
});

test("a looser mode is tightened before any socket is made in it", async () => {
  const dir = await freshRuntimeDir();
  await mkdir(dir);
  await chmod(dir, 0o777);
  const seen: number[] = [];
  let watching = true;
  const watch = (async () => {
    while (watching) {
      const [info, socket] = await Promise.all([lstat(dir), lstat(join(dir, "bangerd.sock")).catch(() => null)]);
      if (socket !== null) seen.push(info.mode & 0o777, socket.mode & 0o777);
      await Bun.sleep(0);
    }
  })();
  await home.ok(["ps"]);
  watching = false;
  await watch;
  expect((await lstat(dir)).mode & 0o777).toBe(0o700);
  expect(seen.filter((mode) => (mode & 0o077) !== 0)).toEqual([]);
});

test("without XDG_RUNTIME_DIR, this state has its own directory in /tmp, under the same rules", async () => {
  const { XDG_RUNTIME_DIR: _, ...env } = home.env;
  const dir = chooseRuntimeDir(env, process.getuid?.() ?? -1, home.stateDir);
  expect(dir).toMatch(new RegExp(`^/tmp/banger-runtime-${process.getuid?.()}-[0-9a-f]{12}$`));
  const start = async (...args: string[]): Promise<number> =>
    await Bun.spawn([BANGER, ...args], { env, stdin: "ignore", stdout: "ignore", stderr: "ignore" }).exited;
  // The one that the state directory names would be used on.
  await freshRuntimeDir();
  await symlink(home.dir, dir);
  try {
    expect(await start("ps")).toBe(12);
    await rm(dir);
    expect(await start("ps")).toBe(0);
    expect((await lstat(dir)).mode & 0o777).toBe(0o700);
    // Found through the state directory, by a command with another environment.
    await home.ok(["ps"]);
    expect(home.runtimeDir).toBe(dir);
    expect(await start("daemon", "stop")).toBe(0);
  } finally {
    await rm(dir, { recursive: true, force: true });
  }
});

describe.skipIf(!isRoot)("a second user (needs root)", () => {
  const asNobody = (argv: string[]) =>
    Bun.spawn(argv, {
      uid: NOBODY,
      gid: NOBODY,
      env: { PATH: process.env["PATH"] ?? "" },
      stdin: "ignore",
      stdout: "pipe",
      stderr: "pipe",
    });

  test("can't reach the socket, nor list the directory", async () => {
    await freshRuntimeDir();
    await home.ok(["ps"]);
    await chmod(home.dir, 0o711);
    await chmod(join(home.dir, "run"), 0o711);
    const connect = asNobody([
      "curl",
      "-sS",
      "-m",
      "5",
      "--unix-socket",
      join(home.runtimeDir, "bangerd.sock"),
      "-X",
      "POST",
      "-d",
      "{}",
      "http://banger/v1/system.ping",
    ]);
    const output = (await new Response(connect.stdout).text()) + (await new Response(connect.stderr).text());
    expect(await connect.exited).not.toBe(0);
    expect(output).not.toContain("version");
    expect(await asNobody(["ls", home.runtimeDir]).exited).not.toBe(0);
  });

  test("gets no answer even if it can reach the socket's path", async () => {
    await chmod(home.runtimeDir, 0o711);
    await chmod(join(home.runtimeDir, "bangerd.sock"), 0o666);
    const connect = asNobody([
      "curl",
      "-sS",
      "-m",
      "5",
      "--unix-socket",
      join(home.runtimeDir, "bangerd.sock"),
      "-X",
      "POST",
      "-H",
      "content-type: application/json",
      "-d",
      "{}",
      "http://banger/v1/system.ping",
    ]);
    expect(await new Response(connect.stdout).text()).toBe("");
    expect(await connect.exited).not.toBe(0);
    await chmod(join(home.runtimeDir, "bangerd.sock"), 0o600);
  });

  test("never gets a socket placed in its own directory by racing the creation in /tmp", async () => {
    // XDG_RUNTIME_DIR in a sticky, world-writable directory: nobody swaps links, files and directories in and out.
    const shared = join(home.dir, "shared");
    await mkdir(shared);
    await chmod(shared, 0o1777);
    const trap = join(home.dir, "trap");
    await mkdir(trap);
    await chown(trap, NOBODY, NOBODY);
    await chmod(trap, 0o777);
    const place = chooseRuntimeDir({ XDG_RUNTIME_DIR: shared }, process.getuid?.() ?? -1, home.stateDir);
    const attacker = asNobody([
      "sh",
      "-c",
      'while :; do ln -s "$1" "$0" 2>/dev/null; rm -f "$0" 2>/dev/null; mkdir "$0" 2>/dev/null; rmdir "$0" 2>/dev/null; done',
      place,
      trap,
    ]);
    let started = 0;
    let refused = 0;
    const end = Date.now() + 10_000;
    while (Date.now() < end || started + refused <= 3) {
      await freshRuntimeDir();
      const result = await home.run(["ps"], { env: { XDG_RUNTIME_DIR: shared } });
      if (result.status === 0) {
        started++;
        const info = await lstat(place);
        expect({ isDirectory: info.isDirectory(), uid: info.uid, mode: info.mode & 0o777 }).toEqual({
          isDirectory: true,
          uid: 0,
          mode: 0o700,
        });
        await home.run(["daemon", "stop"], { env: { XDG_RUNTIME_DIR: shared } });
        await rename(place, join(home.dir, `used-${started}`));
      } else {
        refused++;
        expect(result.stderr).toMatch(/\[(UNSAFE_DIRECTORY|DAEMON_UNREACHABLE)\]/);
      }
      expect(await readdir(trap)).toEqual([]);
    }
    attacker.kill("SIGKILL");
    await attacker.exited;
    await eventually("attacker gone", 5000, () => attacker.exitCode !== null || attacker.signalCode !== null);
  }, 60_000);
});
