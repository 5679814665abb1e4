/** VM rows. */

import type { Database } from "bun:sqlite";
import * as v from "valibot";
import { BangerError } from "../../shared/errors.ts";
import { VmId, type VmRecord } from "../../shared/contract/schemas.ts";
import { formatRecord, type ReadRecord, readRecord } from "./record.ts";

interface Row {
  readonly id: string;
  readonly name: string;
  readonly record: string;
}

export class VmTable {
  readonly #db: Database;

  constructor(db: Database) {
    this.#db = db;
  }

  /** @throws BangerError ALREADY_EXISTS when the name is taken, INTERNAL when the record breaks its schema */
  insert(record: VmRecord): void {
    const known = this.#db.query("SELECT 1 FROM vms WHERE name = ?").get(record.name);
    if (known !== null) {
      throw new BangerError("ALREADY_EXISTS", `a VM named ${record.name} already exists`, {
        hint: `banger vm show ${record.name}`,
      });
    }
    this.#db
      .query("INSERT INTO vms (id, name, record) VALUES (?, ?, ?)")
      .run(record.id, record.name, formatRecord(record));
  }

  /** @throws BangerError INTERNAL when the record breaks its schema */
  update(record: VmRecord): void {
    this.#db.query("UPDATE vms SET record = ? WHERE id = ?").run(formatRecord(record), record.id);
  }

  remove(id: string): void {
    this.#db.query("DELETE FROM vms WHERE id = ?").run(id);
  }

  get(id: string): VmRecord | null {
    return this.read(id)?.record ?? null;
  }

  /** The row with what is wrong with it. */
  read(id: string): ReadRecord | null {
    const row = this.#db.query("SELECT id, name, record FROM vms WHERE id = ?").get(id) as Row | null;
    return row === null ? null : readRow(row);
  }

  /** By name; a damaged row is in state `error` and says so. */
  list(): readonly VmRecord[] {
    const rows = this.#db.query("SELECT id, name, record FROM vms ORDER BY name").all() as Row[];
    return rows.flatMap((row) => readRow(row)?.record ?? []);
  }

  /** Takes out rows whose id is none: nothing on this host can belong to them. Returns what they were called. */
  removeNameless(): readonly string[] {
    const rows = this.#db.query("SELECT id FROM vms").all() as Pick<Row, "id">[];
    const wrong = rows.map(({ id }) => id).filter((id) => !v.is(VmId, id));
    for (const id of wrong) this.remove(id);
    return wrong;
  }
}

/** Null for a row whose id is none. */
function readRow({ id, name, record }: Row): ReadRecord | null {
  const known = v.safeParse(VmId, id);
  return known.success ? readRecord({ id: known.output, name, record }) : null;
}
