import { afterAll, beforeAll, expect, test } from "bun:test";
import { mkdtemp, readdir, readFile, rm, stat } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { openLog } from "../../../src/daemon/log.ts";

let dir: string;
beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), "log-"));
});
afterAll(async () => {
  await rm(dir, { recursive: true, force: true });
});

test("one JSON object per line, private, appended across restarts", async () => {
  const path = join(dir, "a.log");
  openLog(path).info("first", { op: "op-1" });
  openLog(path).error("second\nline");
  const lines = (await readFile(path, "utf8"))
    .trim()
    .split("\n")
    .map((line) => JSON.parse(line) as object);
  expect(lines).toMatchObject([
    { level: "info", message: "first", op: "op-1" },
    { level: "error", message: "second\nline" },
  ]);
  expect((await stat(path)).mode & 0o777).toBe(0o600);
});

test("lines below the level are left out", async () => {
  const path = join(dir, "quiet.log");
  const log = openLog(path, "warn");
  log.info("no");
  log.warn("yes");
  expect((await readFile(path, "utf8")).trim().split("\n")).toHaveLength(1);
});

test("it never grows past its bound by more than a line", async () => {
  const path = join(dir, "b.log");
  const log = openLog(path);
  const filler = "x".repeat(64 * 1024);
  for (let line = 0; line < 300; line++) log.warn(filler);
  const names = (await readdir(dir)).filter((name) => name.startsWith("b.log")).toSorted();
  expect(names).toEqual(["b.log", "b.log.1"]);
  for (const name of names) expect((await stat(join(dir, name))).size).toBeLessThan(8.2 * 1024 * 1024);
});
