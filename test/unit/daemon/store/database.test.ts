import { Database } from "bun:sqlite";
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import {
  checkMigrations,
  isDamagedDatabase,
  openDatabase,
  SCHEMA_VERSION,
} from "../../../../src/daemon/store/database.ts";
import { JOURNAL_OPERATIONS, type JournalOperation, JournalTable } from "../../../../src/daemon/store/journal.ts";
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

/** A store as the code with schema 1 made it, open as its daemon left it: in WAL mode, with work under way. */
function makeSchema1(path: string): Database {
  const db = new Database(path, { create: true, strict: true });
  db.run("PRAGMA journal_mode = WAL");
  db.run("PRAGMA foreign_keys = ON");
  db.run(`CREATE TABLE vms (
     id TEXT PRIMARY KEY,
     name TEXT NOT NULL UNIQUE,
     record TEXT NOT NULL CHECK (json_valid(record))
   ) STRICT;
   CREATE TABLE journal (
     vm TEXT NOT NULL,
     operation TEXT NOT NULL CHECK (operation IN ('create', 'start', 'stop', 'delete')),
     position INTEGER NOT NULL,
     step TEXT NOT NULL,
     phase TEXT NOT NULL CHECK (phase IN ('begun', 'done')),
     PRIMARY KEY (vm, operation, position)
   ) STRICT;
   CREATE TABLE forwards (
     vm TEXT NOT NULL REFERENCES vms (id) ON DELETE CASCADE,
     host_port INTEGER NOT NULL PRIMARY KEY,
     guest_port INTEGER NOT NULL
   ) STRICT;`);
  db.run("PRAGMA user_version = 1");
  return db;
}

describe("a store of schema 1", () => {
  const vm = makeVm();
  const rows = JOURNAL_OPERATIONS.toSorted().flatMap((operation) => [
    { vm: vm.id, operation, position: 0, step: "dirs", phase: "done" as const },
    { vm: vm.id, operation, position: 1, step: "work-disk", phase: "begun" as const },
  ]);

  function fill(db: Database): void {
    new VmTable(db).insert(vm);
    new ForwardTable(db).add({ vm: vm.id, hostPort: 8080, guestPort: 80 });
    const journal = new JournalTable(db);
    for (const { operation, position, step, phase } of rows) {
      journal.begin(vm.id, operation, position, step);
      if (phase === "done") journal.done(vm.id, operation, position);
    }
  }

  test("is brought up to date, and the journal, the VM and its forwards are as they were", () => {
    const path = join(dir, "schema-1.db");
    const old = makeSchema1(path);
    fill(old);
    expect(() => new JournalTable(old).begin(vm.id, "snapshot" as JournalOperation, 0, "x")).toThrow("CHECK");
    expect(checkMigrations(path)).toBe(1);
    old.close();
    for (let opened = 0; opened < 2; opened++) {
      const db = openDatabase(path);
      expect(new JournalTable(db).list()).toEqual(rows);
      expect(new VmTable(db).get(vm.id)).toEqual(vm);
      expect(new ForwardTable(db).list(vm.id)).toEqual([{ vm: vm.id, hostPort: 8080, guestPort: 80 }]);
      db.close();
    }
    expect(checkMigrations(path)).toBe(0);
  });

  test("takes any operation afterwards, still one row per position, and no third phase", () => {
    const path = join(dir, "schema-1-then.db");
    const old = makeSchema1(path);
    fill(old);
    old.close();
    const db = openDatabase(path);
    const journal = new JournalTable(db);
    const later = "snapshot" as JournalOperation;
    journal.begin(vm.id, later, 0, "pause");
    journal.begin(vm.id, later, 0, "freeze");
    journal.done(vm.id, later, 0);
    expect(journal.list().filter(({ operation }) => operation === later)).toEqual([
      { vm: vm.id, operation: later, position: 0, step: "freeze", phase: "done" },
    ]);
    expect(() => db.run("UPDATE journal SET phase = 'half'")).toThrow("CHECK");
    journal.clear(vm.id, later);
    expect(journal.list()).toEqual(rows);
    db.close();
  });

  test("stays as it is when the migration fails half way", () => {
    const path = join(dir, "schema-1-stuck.db");
    const old = makeSchema1(path);
    fill(old);
    // The last statement of the migration meets it.
    old.run("CREATE VIEW stuck AS SELECT missing FROM journal");
    old.close();
    expect(() => openDatabase(path).close()).toThrow("stuck");
    expect(checkMigrations(path)).toBe(1);
    const db = new Database(path);
    expect(new JournalTable(db).list()).toEqual(rows);
    expect(db.query("SELECT name FROM sqlite_master WHERE name = 'new_journal'").get()).toBeNull();
    db.close();
  });
});
