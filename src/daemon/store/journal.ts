/** The journal: which step of which operation has begun or is done. Written before the step acts. */

import type { Database } from "bun:sqlite";

/** The operations that are journaled. A new one needs a word here and no migration. */
export const JOURNAL_OPERATIONS = ["create", "start", "stop", "delete"] as const;

export type JournalOperation = (typeof JOURNAL_OPERATIONS)[number];

export interface JournalRow {
  readonly vm: string;
  readonly operation: JournalOperation;
  readonly position: number;
  readonly step: string;
  readonly phase: "begun" | "done";
}

export class JournalTable {
  readonly #db: Database;

  constructor(db: Database) {
    this.#db = db;
  }

  begin(vm: string, operation: JournalOperation, position: number, step: string): void {
    this.#db
      .query(
        "INSERT INTO journal (vm, operation, position, step, phase) VALUES (?, ?, ?, ?, 'begun') ON CONFLICT DO UPDATE SET step = excluded.step, phase = 'begun'",
      )
      .run(vm, operation, position, step);
  }

  done(vm: string, operation: JournalOperation, position: number): void {
    this.#db
      .query("UPDATE journal SET phase = 'done' WHERE vm = ? AND operation = ? AND position = ?")
      .run(vm, operation, position);
  }

  /** Forgets an operation: it is complete, or undone. */
  clear(vm: string, operation: JournalOperation): void {
    this.#db.query("DELETE FROM journal WHERE vm = ? AND operation = ?").run(vm, operation);
  }

  clearVm(vm: string): void {
    this.#db.query("DELETE FROM journal WHERE vm = ?").run(vm);
  }

  list(): readonly JournalRow[] {
    return this.#db
      .query("SELECT vm, operation, position, step, phase FROM journal ORDER BY vm, operation, position")
      .all() as JournalRow[];
  }
}
