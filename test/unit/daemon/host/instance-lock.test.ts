import { expect, test } from "bun:test";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { tryLockInstance } from "../../../../src/daemon/host/instance-lock.ts";

test("one process at a time; a killed one gives it up", async () => {
  const dir = await mkdtemp(join(tmpdir(), "lock-"));
  const path = join(dir, "daemon.lock");
  const source = resolve(import.meta.dir, "../../../../src/daemon/host/instance-lock.ts");
  const program = `const { tryLockInstance } = await import(${JSON.stringify(source)}); console.log(tryLockInstance(${JSON.stringify(path)}) !== null); await Bun.sleep(60_000);`;
  const holder = Bun.spawn([process.execPath, "-e", program], { stdout: "pipe", stderr: "inherit" });
  try {
    const { value } = await holder.stdout.getReader().read();
    expect(new TextDecoder().decode(value)).toBe("true\n");
    expect(tryLockInstance(path)).toBeNull();
    holder.kill("SIGKILL");
    await holder.exited;
    const lock = tryLockInstance(path);
    expect(lock).not.toBeNull();
    lock?.release();
  } finally {
    holder.kill("SIGKILL");
    await rm(dir, { recursive: true, force: true });
  }
});
