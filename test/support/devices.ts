/** Character devices for tests that copy onto one. */

import { symlink } from "node:fs/promises";

/** Numbers of mem(4). */
const MINORS = { null: 3, full: 7 } as const;

/**
 * Puts a device at `path`. Root gets a node of its own, so that a bug which replaces the device can't take the
 * machine's; for anybody else, who could not replace that one, a link to it.
 */
export async function makeDevice(path: string, kind: keyof typeof MINORS): Promise<void> {
  if (process.getuid?.() !== 0) return await symlink(`/dev/${kind}`, path);
  const made = Bun.spawnSync(["mknod", "-m", "666", path, "c", "1", String(MINORS[kind])]);
  if (made.exitCode !== 0) throw new Error(made.stderr.toString());
}
