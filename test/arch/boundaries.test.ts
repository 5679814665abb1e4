import { expect, test } from "bun:test";
import { join, resolve } from "node:path";
import { findBreaches, listImports } from "./boundaries.ts";

const ROOT = resolve(import.meta.dir, "../..");

const breaches = (path: string, text: string): readonly string[] => findBreaches([{ path, text }]);

test("the source keeps its boundaries", async () => {
  const paths = (await Array.fromAsync(new Bun.Glob("src/**/*.{ts,tsx,js,mjs}").scan({ cwd: ROOT }))).sort();
  expect(paths.length).toBeGreaterThan(50);
  const files = await Promise.all(paths.map(async (path) => ({ path, text: await Bun.file(join(ROOT, path)).text() })));
  expect(findBreaches(files)).toEqual([]);
});

test.each([
  ["src/cmd/a.ts", "../daemon/main.ts"],
  ["src/cmd/a.ts", "../helper/main.ts"],
  ["src/cmd/commands/vm/a.ts", "../../../main.ts"],
  ["src/daemon/a.ts", "../cmd/output.ts"],
  ["src/daemon/vm/a.ts", "../../helper/gates.ts"],
  ["src/helper/a.ts", "../daemon/run-tool.ts"],
  ["src/helper/verbs/a.ts", "../../cmd/args.ts"],
  ["src/shared/a.ts", "../daemon/log.ts"],
  ["src/shared/a.ts", "../../scripts/build.ts"],
  ["src/daemon/a.ts", "../../test/support/banger.ts"],
])("%s may not import %s, in whatever form", (path, target) => {
  for (const text of [
    `import { x } from "${target}";`,
    `import type { X } from '${target}';`,
    `export * from "${target}";`,
    `import "${target}";`,
    `const x = await import("${target}");`,
    `import {\n  x,\n  y,\n} from "${target}";`,
  ])
    expect(breaches(path, text)).toHaveLength(1);
});

test("what a layer may import is no breach", () => {
  expect(breaches("src/main.ts", 'await import("./cmd/cli.ts"); await import("./helper/main.ts");')).toEqual([]);
  expect(breaches("src/cmd/a.ts", 'import { x } from "../shared/errors.ts"; import * as v from "valibot";')).toEqual(
    [],
  );
  expect(breaches("src/daemon/vm/a.ts", 'import { x } from "../store/vms.ts";')).toEqual([]);
  expect(breaches("src/shared/version.ts", 'import p from "../../package.json" with { type: "json" };')).toEqual([]);
});

test.each([
  ["src/daemon/a.ts", 'import { dlopen } from "bun:ffi";', "calls foreign functions"],
  ["src/helper/verbs/a.ts", 'const ffi = await import("bun:ffi");', "calls foreign functions"],
  ["src/cmd/commands/a.ts", 'process.stdout.write("x");', "writes to stdout"],
  ["src/daemon/main.ts", 'console.log("x");', "writes to stdout"],
  ["src/cmd/a.ts", "await Bun.write(Bun.stdout, bytes);", "writes to stdout"],
  ["src/cmd/a.ts", 'process.stderr.write("x");', "writes to stderr"],
  ["src/daemon/a.ts", 'writeSync(2, "x");', "writes to stderr"],
  ["src/cmd/a.ts", "process.exitCode = 1;", "sets the exit status"],
  ["src/cmd/a.ts", "process.exit(1);", "sets the exit status"],
  ["src/daemon/main.ts", "process.exit();", "sets the exit status"],
  ["src/daemon/a.ts", 'Bun.spawn("x", { shell: true });', "runs a shell"],
  ["src/daemon/a.ts", 'import { $ } from "bun";', "runs a shell"],
  ["src/daemon/a.ts", 'const text = "// no comment"; process.exit(1);', "sets the exit status"],
  ["src/other/a.ts", "", "is in none of"],
])("%s: %s", (path, text, what) => {
  expect(breaches(path, text).join("\n")).toContain(what);
});

test("the places that may, may", () => {
  expect(breaches("src/helper/sys/mount.ts", 'import { dlopen } from "bun:ffi";')).toEqual([]);
  expect(breaches("src/cmd/terminal/output.ts", 'process.stdout.write("x"); process.stderr.write("x");')).toEqual([]);
  expect(breaches("src/main.ts", "process.exitCode = await run();")).toEqual([]);
  expect(breaches("src/cmd/a.ts", "/* never process.exit() */ // nor console.log()\n")).toEqual([]);
  expect(breaches("src/cmd/a.ts", "if (process.exitCode === 1) return;")).toEqual([]);
});

test("imports inside comments are none", () => {
  expect(listImports('// import "../daemon/x.ts"\n/* from "../helper/y.ts" */ import z from "./z.ts";')).toEqual([
    "./z.ts",
  ]);
});
