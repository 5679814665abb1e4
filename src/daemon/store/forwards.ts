/** Loopback forwards, so that they can be listed and set up again. */

import type { Database } from "bun:sqlite";

export interface ForwardRow {
  readonly vm: string;
  readonly hostPort: number;
  readonly guestPort: number;
}

export class ForwardTable {
  readonly #db: Database;

  constructor(db: Database) {
    this.#db = db;
  }

  add(row: ForwardRow): void {
    this.#db
      .query("INSERT OR REPLACE INTO forwards (vm, host_port, guest_port) VALUES (?, ?, ?)")
      .run(row.vm, row.hostPort, row.guestPort);
  }

  /** The forward of a port of this host; null when there is none. Its VM may have stopped since. */
  find(hostPort: number): ForwardRow | null {
    return this.#db
      .query("SELECT vm, host_port AS hostPort, guest_port AS guestPort FROM forwards WHERE host_port = ?")
      .get(hostPort) as ForwardRow | null;
  }

  remove(vm: string, hostPort: number): void {
    this.#db.query("DELETE FROM forwards WHERE vm = ? AND host_port = ?").run(vm, hostPort);
  }

  clear(vm: string): void {
    this.#db.query("DELETE FROM forwards WHERE vm = ?").run(vm);
  }

  list(vm: string): readonly ForwardRow[] {
    return this.#db
      .query("SELECT vm, host_port AS hostPort, guest_port AS guestPort FROM forwards WHERE vm = ?")
      .all(vm) as ForwardRow[];
  }
}
