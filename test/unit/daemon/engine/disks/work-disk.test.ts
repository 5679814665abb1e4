import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { mkdtemp, readdir, rm, stat } from "node:fs/promises";
import { join } from "node:path";
import type { DiskFile } from "../../../../../src/daemon/engine/disks/seed.ts";
import { createWorkDisk, growWorkDisk } from "../../../../../src/daemon/engine/disks/work-disk.ts";
import { tryTool } from "../../../../../src/daemon/host/run-tool.ts";

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
const seeded = async (...files: readonly DiskFile[]): Promise<void> =>
  await createWorkDisk(disk, 64 * MIB, signal, files);

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

  test("grows by its size alone, and doesn't shrink: what is on it is the guest's to grow", async () => {
    await Bun.write(disk, "no file system at all");
    await growWorkDisk(disk, 256 * MIB);
    expect((await stat(disk)).size).toBe(256 * MIB);
    expect(await Bun.file(disk).slice(0, 21).text()).toBe("no file system at all");
    await expect(growWorkDisk(disk, 64 * MIB)).rejects.toMatchObject({ code: "INVALID_VALUE" });
  });
});

describe("a work disk for an image that reads no identity disk", () => {
  test("is made anew in place of the one that stood there, and carries the files as root's with their modes", async () => {
    await Bun.write(disk, "hostile");
    await seeded(
      { path: "/.banger/key", mode: 0o600, contents: "first" },
      { path: "/.banger/key.pub", mode: 0o644, contents: "public" },
      { path: "/.hushlogin", mode: 0o644, contents: "" },
      { path: "/.banger/key", mode: 0o600, contents: "the last one counts" },
    );
    expect(await debugfs("cat /.banger/key")).toBe("the last one counts");
    expect(await debugfs("stat /.banger/key")).toMatch(/Mode: +0600[\s\S]*User: +0 +Group: +0/);
    expect(await debugfs("stat /.banger/key")).toContain("Links: 1");
    expect(await debugfs("stat /.banger/key.pub")).toMatch(/Mode: +0644/);
    expect(await debugfs("stat /.banger")).toMatch(/Type: directory[\s\S]*Mode: +0700[\s\S]*User: +0/);
    expect(await debugfs("stat /.hushlogin")).toContain("Size: 0");
    expect(await check()).toBe(0);
    expect(await readdir(dir)).toEqual(["work.ext4"]);
  });

  test("odd names stay names, in directories made on the way", async () => {
    const odd = ['/a b/c "q" d/é;rm x', "/-lead", "/a b/second"] as const;
    await seeded(...odd.map((path) => ({ path, mode: 0o640, contents: path })));
    for (const path of odd) {
      const quoted = `"${path.replaceAll('"', '""')}"`;
      expect(await debugfs(`cat ${quoted}`)).toBe(path);
      expect(await debugfs(`stat ${quoted}`)).toMatch(/Mode: +0640[\s\S]*User: +0 +Group: +0/);
    }
    expect(await debugfs('stat "/a b"')).toMatch(/Type: directory[\s\S]*Mode: +0700/);
    expect(await check()).toBe(0);
  });

  test("a path that could end a line of the script, or climb, never reaches debugfs", async () => {
    for (const path of ["/a\nrm /x", "/../x y", "/a/../b", "/a/.", "//a", "/a/", "relative"] as `/${string}`[])
      await expect(seeded({ path, mode: 0o644, contents: "" })).rejects.toMatchObject({ code: "INTERNAL" });
    expect(await readdir(dir)).toEqual([]);
  });

  test("a full disk is an error, and the old disk stays", async () => {
    await Bun.write(disk, "old");
    await expect(
      seeded({ path: "/big", mode: 0o600, contents: new Uint8Array(70 * MIB).fill(1) }),
    ).rejects.toMatchObject({ code: "FAILED" });
    expect(await Bun.file(disk).text()).toBe("old");
    expect(await readdir(dir)).toEqual(["work.ext4"]);
  });
});
