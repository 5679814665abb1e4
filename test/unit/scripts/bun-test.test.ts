import { afterAll, expect, test } from "bun:test";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import {
  addOutcomes,
  formatOutcome,
  NOTHING,
  parseOutcome,
  readOutcome,
  runAtOnce,
  runBunTest,
} from "../../../scripts/bun-test.ts";

const dir = await mkdtemp(join(tmpdir(), "banger-runner-"));
afterAll(async () => {
  await rm(dir, { recursive: true, force: true });
});

/** Runs one file of this text; counts only. */
async function runText(name: string, text: string, timeoutMs = 30_000) {
  const path = join(dir, `${name}.test.ts`);
  await writeFile(path, `import { afterAll, beforeAll, describe, expect, test } from "bun:test";\n${text}`);
  const { passed, failed, skipped } = await runBunTest({ paths: [path], perTestTimeoutMs: 5000, timeoutMs });
  return { passed, failed, skipped: skipped.map((line) => line.replace(/^.*\.test\.ts: /, "")) };
}

test("passes, failures and skips are counted, skips by name", async () => {
  expect(
    await runText(
      "mixed",
      `test("a", () => {}); test("b", () => { expect(1).toBe(2); }); test.skip("c & <d>", () => {});
       describe("group", () => { test("e", () => {}); test.skipIf(true)("f (needs root)", () => {}); }); test.todo("g");`,
    ),
  ).toEqual({ passed: 2, failed: 1, skipped: ["c & <d>", "group > f (needs root)", "g"] });
});

test.each([
  ["does not load", 'throw new Error("no");', 0],
  ["does not parse", "const = ;", 0],
  ["ends the process with status 0", 'test("a", () => {}); test("b", () => process.exit(0)); test("c", () => {});', 0],
  ["ends the process when all is done", 'test("a", () => {}); afterAll(() => process.exit(0));', 0],
  ["is killed", 'test("a", () => { process.kill(process.pid, "SIGKILL"); });', 0],
  ["has a hook that throws", 'beforeAll(() => { throw new Error("no"); }); test("a", () => {});', 0],
  ["has a last hook that throws", 'test("a", () => {}); afterAll(() => { throw new Error("no"); });', 1],
  [
    "throws between tests",
    'test("a", () => { setTimeout(() => { throw new Error("late"); }, 1); }); test("b", async () => { await Bun.sleep(50); });',
    1,
  ],
])("a file that %s has failed", async (name, text, passed) => {
  expect(await runText(name.replaceAll(" ", "-"), text)).toEqual({ passed, failed: 1, skipped: [] });
});

test("a file that never ends is ended, and has failed", async () => {
  expect(await runText("endless", 'test("a", () => { for (;;); }, 600_000);', 1500)).toEqual({
    passed: 0,
    failed: 1,
    skipped: [],
  });
});

test("what a test leaves running doesn't keep the runner waiting", async () => {
  const text =
    'test("a", () => { Bun.spawn(["sleep", "40"], { stdout: "inherit", stderr: "inherit", detached: true }).unref(); });';
  expect(await runText("leaves", text)).toEqual({ passed: 1, failed: 0, skipped: [] });
});

test("in several processes, one that dies is a failure and the others count", async () => {
  const paths = [join(dir, "two-a.test.ts"), join(dir, "two-b.test.ts")];
  await writeFile(
    paths[0] ?? "",
    'import { test } from "bun:test"; test("a", () => {}); test("b", () => process.exit(0));',
  );
  await writeFile(paths[1] ?? "", 'import { test } from "bun:test"; test("c", () => {});');
  const { passed, failed } = await runBunTest({ paths, perTestTimeoutMs: 5000, timeoutMs: 30_000, processes: 2 });
  expect({ passed, failed }).toEqual({ passed: 2, failed: 1 });
});

test("a path without tests has failed", async () => {
  const { failed } = await runBunTest({ paths: [join(dir, "none")], perTestTimeoutMs: 1000, timeoutMs: 30_000 });
  expect(failed).toBe(1);
});

test("a status that isn't 0 is a failure though nothing says which", () => {
  expect(readOutcome(null, "\nRan 0 tests across 1 file. [1ms]\n", 1).failed).toBe(1);
  expect(readOutcome(null, "\nRan 0 tests across 1 file. [1ms]\n", 0).failed).toBe(0);
  expect(readOutcome(null, "", 0).failed).toBe(1);
});

test("the closing line is read as it was written; the last one counts", () => {
  const outcome = { passed: 3, failed: 1, skipped: ["a: needs root", "b"] };
  const text = `1 passed, 0 failed, 0 skipped\nskip a: needs root\nskip b\n${formatOutcome(outcome)}\n`;
  expect(parseOutcome(text)).toEqual(outcome);
  expect(parseOutcome("3 passed, 0 failed, 1 skipped")).toEqual({ passed: 3, failed: 0, skipped: ["(not named)"] });
  expect(parseOutcome("nothing of the kind")).toBe(null);
  expect(addOutcomes(NOTHING, outcome)).toEqual(outcome);
});

test("items begin in order, no more at once than there are lanes, and each failure is told", async () => {
  const began: number[] = [];
  const ends = [0, 1, 2, 3].map(() => Promise.withResolvers<void>());
  const all = runAtOnce(2, [0, 1, 2, 3], async (item) => {
    began.push(item);
    await ends[item]?.promise;
  });
  expect(began).toEqual([0, 1]);
  ends[1]?.resolve();
  await Bun.sleep(0);
  expect(began).toEqual([0, 1, 2]);
  for (const end of ends) end.resolve();
  await all;
  expect(began).toEqual([0, 1, 2, 3]);
  await expect(runAtOnce(2, [1], async () => await Promise.reject(new Error("no")))).rejects.toThrow("no");
});
