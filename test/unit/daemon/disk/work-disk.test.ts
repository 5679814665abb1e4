import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { mkdtemp, readdir, rm, stat } from "node:fs/promises";
import { join } from "node:path";
import {
  createWorkDisk,
  growWorkDisk,
  type DiskFile,
  isClean,
  writeFiles,
} from "../../../../src/daemon/disk/work-disk.ts";
import { tryTool } from "../../../../src/daemon/run-tool.ts";

const MIB = 1024 * 1024;
const { signal } = new AbortController();

let dir: string;
let disk: string;
beforeEach(async () => {
  dir = await mkdtemp("/tmp/banger-work-");
  disk = join(dir, "work.ext4");
});
afterEach(async () => {
  await rm(dir, { recursive: true, force: true });
});

const debugfs = async (request: string): Promise<string> =>
  (await tryTool(["debugfs", "-R", request, disk], { timeoutMs: 10_000 })).stdout;
const check = async (): Promise<number> =>
  (await tryTool(["e2fsck", "-f", "-n", disk], { timeoutMs: 10_000 })).exitCode;

const files = (secret: string): readonly DiskFile[] => [
  { path: "/.banger/key", mode: 0o600, contents: secret },
  { path: "/.banger/key.pub", mode: 0o644, contents: "public" },
  { path: "/.hushlogin", mode: 0o644, contents: "" },
];

describe("a work disk", () => {
  test("is sparse, private, root's, and of the size asked", async () => {
    await createWorkDisk(disk, 8192 * MIB, signal);
    const info = await stat(disk);
    expect(info.size).toBe(8192 * MIB);
    expect(info.mode & 0o077).toBe(0);
    expect(info.blocks * 512).toBeLessThan(200 * MIB);
    expect(await debugfs("stat /")).toMatch(/User: +0 +Group: +0/);
    expect(await check()).toBe(0);
  });

  test("is clean by its superblock until something is to be replayed or repaired", async () => {
    await createWorkDisk(disk, 64 * MIB, signal);
    const fresh = new Uint8Array(await Bun.file(disk).slice(1024, 2048).arrayBuffer());
    expect(isClean(fresh)).toBe(true);
    for (const [offset, value] of [
      [0x38, 0x00],
      [0x3a, 0x02],
      [0x60, (fresh[0x60] ?? 0) | 0x4],
      [0x66, (fresh[0x66] ?? 0) | 0x1],
      [0xe8, 0x0c],
    ] as const) {
      expect([offset, isClean(fresh.with(offset, value))]).toEqual([offset, false]);
    }
    expect(isClean(fresh.subarray(0, 512))).toBe(false);
  });

  test("that was not unmounted has its journal replayed before it is written to", async () => {
    await createWorkDisk(disk, 64 * MIB, signal);
    // What a mounted file system says of itself; its journal is empty.
    await tryTool(["debugfs", "-w", "-R", "feature needs_recovery", disk], { timeoutMs: 10_000 });
    expect(isClean(new Uint8Array(await Bun.file(disk).slice(1024, 2048).arrayBuffer()))).toBe(false);
    await writeFiles(disk, files("after"), signal);
    expect(await debugfs("cat /.banger/key")).toBe("after");
    expect(await check()).toBe(0);
  });

  test("an existing file is never overwritten", async () => {
    await createWorkDisk(disk, 64 * MIB, signal);
    await expect(createWorkDisk(disk, 64 * MIB, signal)).rejects.toMatchObject({ code: "EEXIST" });
  });

  test("carries the identity as root's with its modes, and a second write replaces the first, leaving a clean file system", async () => {
    await createWorkDisk(disk, 64 * MIB, signal);
    await writeFiles(disk, files("first"), signal);
    await writeFiles(disk, files("second, and longer"), signal);
    expect(await debugfs("cat /.banger/key")).toBe("second, and longer");
    expect(await debugfs("stat /.banger/key")).toMatch(/Mode: +0600[\s\S]*User: +0 +Group: +0/);
    expect(await debugfs("stat /.banger/key")).toContain("Links: 1");
    expect(await debugfs("stat /.banger/key.pub")).toMatch(/Mode: +0644/);
    expect(await debugfs("stat /.banger")).toMatch(/Type: directory[\s\S]*Mode: +0700[\s\S]*User: +0/);
    expect(await debugfs("stat /.hushlogin")).toContain("Size: 0");
    expect(await check()).toBe(0);
    expect(await readdir(dir)).toEqual(["work.ext4"]);
  });

  test("odd names stay names, in directories made on the way", async () => {
    await createWorkDisk(disk, 64 * MIB, signal);
    const odd = ['/a b/c "q" d/é;rm x', "/-lead", "/a b/second"] as const;
    for (let round = 0; round < 2; round++) {
      await writeFiles(
        disk,
        odd.map((path) => ({ path, mode: 0o640, contents: path })),
        signal,
      );
    }
    for (const path of odd) {
      const quoted = `"${path.replaceAll('"', '""')}"`;
      expect(await debugfs(`cat ${quoted}`)).toBe(path);
      expect(await debugfs(`stat ${quoted}`)).toMatch(/Mode: +0640[\s\S]*User: +0 +Group: +0/);
    }
    expect(await debugfs('stat "/a b"')).toMatch(/Type: directory[\s\S]*Mode: +0700/);
    expect(await check()).toBe(0);
  });

  test("a path that could end a line of the script, or climb, never reaches debugfs", async () => {
    await createWorkDisk(disk, 64 * MIB, signal);
    for (const path of ["/a\nrm /x", "/../x y", "/a/../b", "/a/.", "//a", "/a/", "relative"] as `/${string}`[]) {
      await expect(writeFiles(disk, [{ path, mode: 0o644, contents: "" }], signal)).rejects.toMatchObject({
        code: "INTERNAL",
      });
    }
    expect(await readdir(dir)).toEqual(["work.ext4"]);
  });

  test("a full disk is an error, not a half-written key", async () => {
    await createWorkDisk(disk, 64 * MIB, signal);
    await expect(
      writeFiles(disk, [{ path: "/big", mode: 0o600, contents: new Uint8Array(70 * MIB).fill(1) }], signal),
    ).rejects.toMatchObject({ code: "FAILED" });
  });

  test("grows with what is in it, and doesn't shrink", async () => {
    await createWorkDisk(disk, 64 * MIB, signal);
    await writeFiles(disk, files("kept"), signal);
    await growWorkDisk(disk, 256 * MIB, signal);
    expect((await stat(disk)).size).toBe(256 * MIB);
    expect(await debugfs("cat /.banger/key")).toBe("kept");
    expect(await check()).toBe(0);
    await expect(growWorkDisk(disk, 64 * MIB, signal)).rejects.toMatchObject({ code: "INVALID_VALUE" });
  });

  test("a file that holds no file system is named", async () => {
    await Bun.write(disk, new Uint8Array(1 * MIB));
    await expect(writeFiles(disk, files("x"), signal)).rejects.toMatchObject({
      code: "FAILED",
      message: expect.stringContaining(disk),
    });
  });
});
