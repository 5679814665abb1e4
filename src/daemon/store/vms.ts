/** VM rows. */

import type { Database } from "bun:sqlite";
import * as v from "valibot";
import { BangerError } from "../../shared/errors.ts";
import { VmRecord } from "../../shared/schemas.ts";

export class VmTable {
  readonly #db: Database;

  constructor(db: Database) {
    this.#db = db;
  }

  /** @throws BangerError ALREADY_EXISTS when the name is taken */
  insert(record: VmRecord): void {
    const known = this.#db.query("SELECT 1 FROM vms WHERE name = ?").get(record.name);
    if (known !== null) {
      throw new BangerError("ALREADY_EXISTS", `a VM named ${record.name} exists already`, {
        hint: `banger vm show ${record.name}`,
      });
    }
    this.#db
      .query("INSERT INTO vms (id, name, record) VALUES (?, ?, ?)")
      .run(record.id, record.name, JSON.stringify(record));
  }

  update(record: VmRecord): void {
    this.#db.query("UPDATE vms SET record = ? WHERE id = ?").run(JSON.stringify(record), record.id);
  }

  remove(id: string): void {
    this.#db.query("DELETE FROM vms WHERE id = ?").run(id);
  }

  get(id: string): VmRecord | null {
    const row = this.#db.query("SELECT record FROM vms WHERE id = ?").get(id) as { record: string } | null;
    return row === null ? null : v.parse(VmRecord, JSON.parse(row.record));
  }

  list(): readonly VmRecord[] {
    const rows = this.#db.query("SELECT record FROM vms ORDER BY name").all() as { record: string }[];
    return rows.map(({ record }) => v.parse(VmRecord, JSON.parse(record)));
  }
}
