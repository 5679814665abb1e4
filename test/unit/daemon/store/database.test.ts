import { Database } from "bun:sqlite";
import { afterAll, beforeAll, expect, test } from "bun:test";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import {
  checkMigrations,
  isDamagedDatabase,
  openDatabase,
  SCHEMA_VERSION,
} from "../../../../src/daemon/store/database.ts";
import { ForwardTable } from "../../../../src/daemon/store/forwards.ts";
import { VmTable } from "../../../../src/daemon/store/vms.ts";
import { makeVm } from "../../../support/vm-record.ts";

let dir: string;
beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), "store-"));
});
afterAll(async () => {
  await rm(dir, { recursive: true, force: true });
});

test("--check-migrations: would migrate, up to date, too new; and looking changes nothing", () => {
  const path = join(dir, "a.db");
  expect(checkMigrations(path)).toBe(1);
  new Database(path, { create: true }).close();
  expect(checkMigrations(path)).toBe(1);
  expect(checkMigrations(path)).toBe(1);
  openDatabase(path).close();
  expect(checkMigrations(path)).toBe(0);
  const db = new Database(path);
  db.run(`PRAGMA user_version = ${SCHEMA_VERSION + 1}`);
  db.close();
  expect(checkMigrations(path)).toBe(2);
  expect(() => openDatabase(path)).toThrow("this banger supports only");
});

test("a file that is no database is known as damaged, another error isn't", async () => {
  const path = join(dir, "b.db");
  await writeFile(path, "not a database, and long enough for a header of one".repeat(50));
  const thrown = (() => {
    try {
      openDatabase(path).close();
      return null;
    } catch (error) {
      return error;
    }
  })();
  expect(isDamagedDatabase(thrown)).toBe(true);
  expect(isDamagedDatabase(new Error("x"))).toBe(false);
  expect(isDamagedDatabase(null)).toBe(false);
});

test("VM rows: one name once, updates, removal, and forwards that go with the VM", () => {
  const db = openDatabase(":memory:");
  const vms = new VmTable(db);
  const forwards = new ForwardTable(db);
  const vm = makeVm();
  vms.insert(vm);
  expect(() => vms.insert(makeVm({ id: "ffffffffffff" }))).toThrow("already exists");
  vms.update({ ...vm, state: "running" });
  expect(vms.get(vm.id)).toMatchObject({ state: "running" });
  forwards.add({ vm: vm.id, hostPort: 8080, guestPort: 80 });
  expect(forwards.list(vm.id)).toEqual([{ vm: vm.id, hostPort: 8080, guestPort: 80 }]);
  vms.remove(vm.id);
  expect(vms.list()).toEqual([]);
  expect(forwards.list(vm.id)).toEqual([]);
});
