/** Rootless mode if HOME or XDG_RUNTIME_DIR can't be written: each case has its code, its path and a next command. */

import { afterEach, beforeEach, expect, test } from "bun:test";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { join, resolve } from "node:path";

const MAIN = resolve(import.meta.dir, "../../src/main.ts");

let base: string;
let home: string;
const mounted: string[] = [];

beforeEach(() => {
  base = mkdtempSync("/tmp/bt-r-");
  home = join(base, "home");
  for (const name of ["home", "run"]) mkdirSync(join(base, name), { mode: 0o700 });
});
afterEach(async () => {
  // While a daemon runs in it, its file system is busy.
  await banger("daemon", "stop");
  for (const path of mounted.splice(0).toReversed()) tool("umount", path);
  rmSync(base, { recursive: true, force: true });
});

function tool(...argv: readonly string[]): void {
  const { exitCode, stderr } = Bun.spawnSync([...argv]);
  if (exitCode !== 0) throw new Error(`${argv.join(" ")}: ${stderr.toString()}`);
}

/** In the mount namespace of run.ts, so nothing is visible outside. */
function mountTmpfs(path: string, options: string): void {
  tool("mount", "-t", "tmpfs", "-o", options, "tmpfs", path);
  mounted.push(path);
}

function fill(path: string): void {
  try {
    for (let size = 1024 ** 2; size >= 1; size /= 2)
      for (;;) {
        writeFileSync(join(path, "fill"), Buffer.alloc(size, "x"), { flag: "a" });
      }
  } catch (thrown) {
    if ((thrown as NodeJS.ErrnoException).code !== "ENOSPC") throw thrown;
  }
}

async function banger(...argv: readonly string[]): Promise<{ readonly status: number; readonly stderr: string }> {
  const child = Bun.spawn([process.execPath, MAIN, ...argv], {
    cwd: "/",
    env: { HOME: home, XDG_RUNTIME_DIR: join(base, "run"), PATH: process.env["PATH"] ?? "" },
    stdin: "ignore",
    stdout: "ignore",
    stderr: "pipe",
  });
  const [stderr, status] = await Promise.all([new Response(child.stderr).text(), child.exited]);
  return { status, stderr };
}

test("a full home: NO_SPACE, whether or not a daemon has run there before", async () => {
  mountTmpfs(home, "size=64k");
  const first = await banger("ps");
  expect(first).toMatchObject({ status: 31 });
  expect(first.stderr).toContain(`${home}/.local/state/banger: its file system is full [NO_SPACE]`);
  expect(first.stderr).toContain("try: df -h");
  tool("mount", "-o", "remount,size=10m", home);
  expect(await banger("ps")).toMatchObject({ status: 0 });
  await banger("daemon", "stop");
  fill(home);
  expect((await banger("ps")).stderr).toContain("[NO_SPACE]");
}, 60_000);

test("a home that fills up under a running daemon: it still answers, and stops when told to", async () => {
  mountTmpfs(home, "size=10m");
  expect(await banger("ps")).toMatchObject({ status: 0 });
  fill(home);
  expect(await banger("ps")).toMatchObject({ status: 0, stderr: "" });
  expect(await banger("daemon", "stop")).toMatchObject({ status: 0 });
}, 60_000);

test("a read-only home: READ_ONLY, empty or not", async () => {
  mountTmpfs(home, "size=10m");
  expect(await banger("ps")).toMatchObject({ status: 0 });
  await banger("daemon", "stop");
  tool("mount", "-o", "remount,ro", home);
  const used = await banger("ps");
  expect(used).toMatchObject({ status: 31 });
  expect(used.stderr).toContain("its file system is read-only [READ_ONLY]");
  mountTmpfs(home, "ro");
  const empty = await banger("ps");
  expect(empty).toMatchObject({ status: 31 });
  expect(empty.stderr).toContain(`the file system of ${home} is read-only [READ_ONLY]`);
}, 60_000);

test("a read-only XDG_RUNTIME_DIR", async () => {
  mountTmpfs(join(base, "run"), "ro");
  const { status, stderr } = await banger("ps");
  expect(status).toBe(31);
  expect(stderr).toContain(`the file system of ${base}/run is read-only [READ_ONLY]`);
}, 60_000);
