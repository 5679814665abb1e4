import { expect, test } from "bun:test";
import { existsSync } from "node:fs";
import { join, posix, resolve } from "node:path";
import type { SourceFile } from "./boundaries.ts";
import { findCircles, findCrowded, findLong, findMissingPaths, findOnlyForTests, findUnimported } from "./structure.ts";

const ROOT = resolve(import.meta.dir, "../..");
const LINES = 350;
const FILES = 12;

/** Files that are one table. */
const TABLES: readonly string[] = [
  "src/cmd/commands/index.ts",
  "src/helper/gates.ts",
  "src/shared/contract/helper-api.ts",
  "src/shared/contract/owner-api.ts",
];

/** Folders that have one file per thing of a table. */
const ONE_FILE_PER_THING: readonly string[] = ["src/cmd/commands/vm", "src/helper/verbs"];

/** Exports that only tests use, as `path: name`, each with its reason. */
const ONLY_FOR_TESTS: Readonly<Record<string, string>> = {};

async function readFiles(pattern: string, atLeast = 50): Promise<readonly SourceFile[]> {
  const paths = (await Array.fromAsync(new Bun.Glob(pattern).scan({ cwd: ROOT }))).sort();
  expect(paths.length).toBeGreaterThan(atLeast);
  return await Promise.all(paths.map(async (path) => ({ path, text: await Bun.file(join(ROOT, path)).text() })));
}

const files = await readFiles("src/**/*.ts");

test("no files import each other in a circle", () => {
  expect(findCircles(files)).toEqual([]);
});

test("only tables are longer than 350 lines", () => {
  expect(findLong(without(files, TABLES), LINES)).toEqual([]);
});

test("only tables of one file per thing have more than a dozen files", () => {
  expect(findCrowded(files, FILES).filter((found) => !ONE_FILE_PER_THING.includes(found.split(":")[0] ?? ""))).toEqual(
    [],
  );
});

test("every table that is excused from a rule exists", () => {
  const known = new Set(files.flatMap(({ path }) => [path, posix.dirname(path)]));
  expect([...TABLES, ...ONE_FILE_PER_THING].filter((path) => !known.has(path))).toEqual([]);
});

test("whatever a file exports, another one imports: the product, a test or a script", async () => {
  expect(findUnimported([...files, ...(await readFiles("{test,scripts}/**/*.ts"))])).toEqual([]);
});

test("the product or a script uses whatever a file exports", async () => {
  const found = findOnlyForTests([...files, ...(await readFiles("scripts/*.ts", 5))]);
  expect(found.toSorted()).toEqual(Object.keys(ONLY_FOR_TESTS).toSorted());
});

test("every path that AGENTS.md names exists", async () => {
  const text = await Bun.file(join(ROOT, "AGENTS.md")).text();
  const missing = findMissingPaths(text, (path) => existsSync(join(ROOT, path)));
  expect(missing).toEqual([]);
});

test.each<[string, Record<string, string>, string[][]]>([
  ["two files", { "src/a.ts": 'import "./b.ts";', "src/b.ts": 'import "./a.ts";' }, [["src/a.ts", "src/b.ts"]]],
  [
    "three files, over folders, by types and loading later",
    {
      "src/a/a.ts": 'import type { B } from "../b.ts";',
      "src/b.ts": 'const c = await import("./c/c.ts");',
      "src/c/c.ts": 'export * from "../a/a.ts";',
    },
    [["src/a/a.ts", "src/b.ts", "src/c/c.ts"]],
  ],
  ["a file and itself", { "src/a.ts": 'import "./a.ts";' }, [["src/a.ts"]]],
  [
    "two circles",
    {
      "src/a.ts": 'import "./b.ts"; import "./c.ts";',
      "src/b.ts": 'import "./a.ts";',
      "src/c.ts": 'import "./d.ts";',
      "src/d.ts": 'import "./c.ts";',
    },
    [
      ["src/a.ts", "src/b.ts"],
      ["src/c.ts", "src/d.ts"],
    ],
  ],
  [
    "none: two ways to one file",
    {
      "src/a.ts": 'import "./b.ts"; import "./c.ts"; import "node:fs";',
      "src/b.ts": 'import "./d.ts";',
      "src/c.ts": 'import "./d.ts";',
      "src/d.ts": "",
    },
    [],
  ],
])("a circle of %s", (_, texts, circles) => {
  const found = findCircles(Object.entries(texts).map(([path, text]) => ({ path, text })));
  expect(found.toSorted((a, b) => ((a[0] ?? "") < (b[0] ?? "") ? -1 : 1))).toEqual(circles);
});

test("a file may have the limit's lines, and not one more", () => {
  const file = (lines: number): SourceFile => ({ path: `src/${lines}.ts`, text: "\n".repeat(lines) });
  expect(findLong([file(350), file(351)], 350)).toEqual(["src/351.ts: 351"]);
});

test("a folder may have the limit's files of its own, and not one more", () => {
  const folder = (path: string, count: number): SourceFile[] =>
    Array.from({ length: count }, (_, i) => ({ path: `${path}/${i}.ts`, text: "" }));
  expect(findCrowded([...folder("src/a", 12), ...folder("src/a/b", 13), ...folder("src", 1)], 12)).toEqual([
    "src/a/b: 13",
  ]);
});

test("a page's paths are looked for from the root, and beside those before them on the line", () => {
  const paths = ["src/a/", "src/a/one.ts", "src/b/", "package.json", "scripts/x.ts"];
  const missing = (text: string): readonly string[] => findMissingPaths(text, (path) => paths.includes(path));
  expect(missing("`src/a/`: `one.ts`, and `b/`; `package.json`, `bun scripts/x.ts --fix`, `NAME.vm`, `a/b`")).toEqual(
    [],
  );
  expect(missing("`src/c/` `bun scripts/y.ts`")).toEqual(["src/c/", "scripts/y.ts"]);
  expect(missing("`src/a/`: `two.ts`, `c/`")).toEqual(["two.ts", "c/"]);
  expect(missing("`src/a/`\n`one.ts`")).toEqual(["one.ts"]);
});

test("an export counts as used by whoever imports its file and names it", () => {
  const text =
    "export const one = 1;\nexport async function two() {}\nexport class Three {}\nexport type Four = 4;\nconst five = 5;";
  const find = (others: Record<string, string>): readonly string[] =>
    findUnimported([{ path: "src/a/a.ts", text }, ...Object.entries(others).map(([path, of]) => ({ path, text: of }))]);
  const all = ["src/a/a.ts: one", "src/a/a.ts: two", "src/a/a.ts: Three"];
  expect(find({})).toEqual(all);
  // Not by what only has the same name, and not by the file itself.
  expect(find({ "src/b.ts": 'import { one } from "./a.ts"; const two = 2;' })).toEqual(all);
  expect(findUnimported([{ path: "src/a/a.ts", text: `${text}\nimport("./a.ts"); one;` }])).toEqual(all);
  expect(find({ "scripts/b.ts": 'import * as a from "../src/a/a.ts";' })).toEqual([]);
  expect(
    find({
      "src/b.ts": 'import { one as first } from "./a/a.ts";',
      "src/a/c.ts": 'await (await import("./a.ts")).two();',
      "test/d.test.ts": 'import { Three } from "../src/a/a.ts";',
    }),
  ).toEqual([]);
});

test("an export is only for tests if neither its own code nor another file names it", () => {
  const text =
    "export const one = 1;\n/** {@link one} */\n  // one\nexport function two() {}\ntwo();\nexport class Three {}\n";
  const find = (others: Record<string, string>): readonly string[] =>
    findOnlyForTests([{ path: "src/a.ts", text }, ...Object.entries(others).map(([path, of]) => ({ path, text: of }))]);
  expect(find({})).toEqual(["src/a.ts: one", "src/a.ts: Three"]);
  expect(find({ "src/b.ts": 'import { one } from "./a.ts";' })).toEqual(["src/a.ts: Three"]);
  expect(find({ "scripts/b.ts": 'import { Three, one } from "../src/a.ts";' })).toEqual([]);
});

function without(all: readonly SourceFile[], paths: readonly string[]): readonly SourceFile[] {
  return all.filter(({ path }) => !paths.includes(path));
}
