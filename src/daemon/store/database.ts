/** The store: SQLite with WAL, strict tables and forward-only migrations. */

import { Database } from "bun:sqlite";
import { existsSync } from "node:fs";
import { BangerError } from "../../shared/errors.ts";

/** Each runs once, in its own transaction, in order; the number of those that ran is `user_version`. Never edit a released one. */
const MIGRATIONS: readonly string[] = [
  `CREATE TABLE vms (
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
   ) STRICT;`,
  // Any operation may be journaled: the words are in journal.ts. SQLite can't drop a CHECK, so the table is copied.
  `CREATE TABLE new_journal (
     vm TEXT NOT NULL,
     operation TEXT NOT NULL,
     position INTEGER NOT NULL,
     step TEXT NOT NULL,
     phase TEXT NOT NULL CHECK (phase IN ('begun', 'done')),
     PRIMARY KEY (vm, operation, position)
   ) STRICT;
   INSERT INTO new_journal (vm, operation, position, step, phase)
     SELECT vm, operation, position, step, phase FROM journal;
   DROP TABLE journal;
   ALTER TABLE new_journal RENAME TO journal;`,
  // From here on a record may have `agent`, which an older banger would take for damage.
  `SELECT 1;`,
];

export const SCHEMA_VERSION = MIGRATIONS.length;

function versionOf(db: Database): number {
  return (db.query("PRAGMA user_version").get() as { user_version: number }).user_version;
}

/** Opens the store, bringing it up to date. @throws BangerError STORE_TOO_NEW */
export function openDatabase(path: string): Database {
  const db = new Database(path, { create: true, strict: true });
  db.run("PRAGMA journal_mode = WAL");
  db.run("PRAGMA synchronous = FULL");
  db.run("PRAGMA foreign_keys = ON");
  db.run("PRAGMA busy_timeout = 5000");
  const version = versionOf(db);
  if (version > SCHEMA_VERSION) {
    db.close();
    throw new BangerError(
      "STORE_TOO_NEW",
      `${path} has schema ${version}, but this banger supports only up to ${SCHEMA_VERSION}`,
    );
  }
  for (let next = version; next < SCHEMA_VERSION; next++) {
    db.transaction(() => {
      db.run(MIGRATIONS[next] ?? "");
      db.run(`PRAGMA user_version = ${next + 1}`);
    })();
  }
  return db;
}

/** `bangerd --check-migrations`: 0 up to date, 1 would migrate, 2 too new. Changes nothing. */
export function checkMigrations(path: string): 0 | 1 | 2 {
  if (!existsSync(path)) return 1;
  const db = new Database(path, { readonly: true });
  try {
    const version = versionOf(db);
    return version === SCHEMA_VERSION ? 0 : version < SCHEMA_VERSION ? 1 : 2;
  } finally {
    db.close();
  }
}

/** True for an error that says that the file holds no sound database. */
export function isDamagedDatabase(thrown: unknown): boolean {
  const code = (thrown as { code?: unknown } | null)?.code;
  return code === "SQLITE_CORRUPT" || code === "SQLITE_NOTADB";
}
