/**
 * One daemon per state directory. SQLite's exclusive lock is a POSIX record lock (fcntl(2)): the kernel drops it with
 * the process, however that ends, and children don't inherit it.
 */

import { Database } from "bun:sqlite";

export interface InstanceLock {
  release(): void;
}

/** The lock, or null when another process holds it. */
export function tryLockInstance(path: string): InstanceLock | null {
  const db = new Database(path, { create: true });
  try {
    db.run("PRAGMA busy_timeout = 0");
    db.run("PRAGMA locking_mode = EXCLUSIVE");
    db.run("BEGIN EXCLUSIVE");
    return { release: () => db.close() };
  } catch (thrown) {
    db.close();
    if ((thrown as { code?: string }).code === "SQLITE_BUSY") return null;
    throw thrown;
  }
}
