import { afterAll, beforeAll, expect, test } from "bun:test";
import { mkdtemp, readdir, rm, stat, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { readHandles, writeHandles } from "../../../../src/daemon/store/handles.ts";
import { makeVm } from "../../../support/vm-record.ts";

let dir: string;
beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), "handles-"));
});
afterAll(async () => {
  await rm(dir, { recursive: true, force: true });
});

test("what is written comes back, private and whole", async () => {
  const vm = makeVm({ name: "box", state: "running", pid: 42 });
  await writeHandles(dir, vm);
  await writeHandles(dir, { ...vm, pid: 43 });
  expect(await readHandles(dir)).toEqual({ ...vm, pid: 43 });
  expect((await stat(join(dir, "handles.json"))).mode & 0o777).toBe(0o600);
  expect(await readdir(dir)).toEqual(["handles.json"]);
});

test.each(["", "{", '{"version":2}', '{"version":1,"vm":{}}', "null"])("%p is no handles file", async (text) => {
  await writeFile(join(dir, "handles.json"), text);
  expect(await readHandles(dir)).toBeNull();
});
