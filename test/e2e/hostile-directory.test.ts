/** Nothing in the directory banger is started in changes what it does: Bun reads several files there unless the build forbids it. */

import { afterAll, beforeAll, expect, test } from "bun:test";
import { existsSync } from "node:fs";
import { mkdir, rm, symlink, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { VERSION } from "../../src/shared/version.ts";
import { BANGER, type Home, makeHome } from "../support/banger.ts";

let home: Home;
let hostile: string;
let marker: string;

beforeAll(async () => {
  home = await makeHome();
  hostile = join(home.dir, "hostile");
  marker = join(home.dir, "ran");
  const evil = `require("node:fs").appendFileSync(${JSON.stringify(marker)}, "ran\\n");`;
  await mkdir(join(hostile, "elsewhere"), { recursive: true });
  await writeFile(join(hostile, "evil.js"), evil);
  await writeFile(
    join(hostile, "bunfig.toml"),
    'preload = ["./evil.js"]\n[test]\npreload = ["./evil.js"]\n[run]\nbun = true\n',
  );
  for (const name of [".env", ".env.local", ".env.production", ".env.development"])
    await writeFile(
      join(hostile, name),
      `XDG_STATE_HOME=${hostile}/elsewhere\nXDG_CONFIG_HOME=${hostile}/elsewhere\nNO_COLOR=\n`,
    );
  await writeFile(
    join(hostile, "tsconfig.json"),
    JSON.stringify({ compilerOptions: { baseUrl: ".", paths: { "*": ["./evil.js"] }, jsxImportSource: "./evil" } }),
  );
  await writeFile(
    join(hostile, "package.json"),
    JSON.stringify({ name: "hostile", version: "66.6.6", type: "commonjs", imports: { "#*": "./evil.js" } }),
  );
  for (const name of ["valibot", "citty", "consola", "ofetch", "bun"]) {
    await mkdir(join(hostile, "node_modules", name), { recursive: true });
    await writeFile(join(hostile, "node_modules", name, "package.json"), JSON.stringify({ name, main: "index.js" }));
    await writeFile(join(hostile, "node_modules", name, "index.js"), evil);
  }
});

afterAll(async () => {
  await home[Symbol.asyncDispose]();
});

test("the trap works: Bun itself runs its files", async () => {
  await writeFile(join(hostile, "victim.js"), "");
  const bun = Bun.spawn([process.execPath, "victim.js"], {
    cwd: hostile,
    env: home.env,
    stdout: "ignore",
    stderr: "ignore",
  });
  await bun.exited;
  expect(existsSync(marker)).toBe(true);
  await rm(marker);
});

test.each([
  [["version"]],
  [["--help"]],
  [["vm", "--help"]],
  [["explain", "USAGE"]],
  [["ps"]],
  [["config"]],
  [["doctor"]],
  [["nonsense"]],
])("banger %j runs none of its files", async (args) => {
  const there = await home.run(args, { cwd: hostile });
  expect(existsSync(marker)).toBe(false);
  const elsewhere = await home.run(args);
  expect(there.status).toBe(elsewhere.status);
  if (args[0] !== "doctor") expect(there.stdout).toBe(elsewhere.stdout);
});

test("the daemon, by its own name, runs none of them either", async () => {
  const link = join(home.dir, "bangerd");
  await symlink(BANGER, link);
  const daemon = Bun.spawn([link, "--check-migrations"], {
    cwd: hostile,
    env: home.env,
    stdout: "ignore",
    stderr: "ignore",
  });
  await daemon.exited;
  expect(existsSync(marker)).toBe(false);
});

test("banger is still this version, and its files are where they belong", async () => {
  expect((await home.run(["version"], { cwd: hostile })).stdout).toContain(VERSION);
  expect(existsSync(home.stateDir)).toBe(true);
  expect(existsSync(join(hostile, "elsewhere/banger"))).toBe(false);
});
