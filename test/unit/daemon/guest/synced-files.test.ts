import { afterAll, beforeAll, expect, test } from "bun:test";
import { mkdir, mkdtemp, rm, symlink, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { collectSyncedFiles } from "../../../../src/daemon/guest/synced-files.ts";

let base: string;
let home: string;
beforeAll(async () => {
  base = await mkdtemp("/tmp/file-sync-");
  home = join(base, "home");
  await mkdir(join(home, "tree/sub"), { recursive: true });
  await writeFile(join(home, "tree/tool"), "#!/bin/sh\n", { mode: 0o775 });
  await writeFile(join(home, "tree/sub/note"), "hello");
  await writeFile(join(base, "secret"), "theirs");
  await symlink("sub/note", join(home, "tree/inside"));
  await symlink(join(base, "secret"), join(home, "tree/outside"));
  await symlink("nowhere", join(home, "tree/dangling"));
  await symlink(".", join(home, "tree/loop"));
  await symlink(join(base, "secret"), join(home, "stolen"));
});
afterAll(async () => {
  await rm(base, { recursive: true, force: true });
});

const collect = async (host: string, mode: number | null = null) => {
  const warnings: string[] = [];
  const files = await collectSyncedFiles([{ host, guest: "/root/to", mode }], home, (message) =>
    warnings.push(message),
  );
  return { files: files.map((file) => ({ ...file, contents: Buffer.from(file.contents).toString() })), warnings };
};

test("a tree, with links inside it followed and all others skipped by name", async () => {
  const { files, warnings } = await collect("~/tree");
  expect(files).toEqual([
    { path: "/to/inside", mode: 0o644, contents: "hello" },
    { path: "/to/sub/note", mode: 0o644, contents: "hello" },
    { path: "/to/tool", mode: 0o755, contents: "#!/bin/sh\n" },
  ]);
  expect(warnings.map((line) => /tree\/(\w+)/.exec(line)?.[1])).toEqual(["dangling", "loop", "outside"]);
});

test("a mode of its own", async () => {
  expect((await collect("~/tree/sub/note", 0o600)).files).toEqual([{ path: "/to", mode: 0o600, contents: "hello" }]);
});

test("what is missing, and a name that leads out of the home, are warnings", async () => {
  expect(await collect("~/none")).toEqual({ files: [], warnings: ["file_sync: there is no ~/none"] });
  expect(await collect("~/stolen")).toMatchObject({ files: [], warnings: [expect.stringContaining("leads out of")] });
});

test("anything else aborts", async () => {
  const fifo = Bun.spawnSync(["mkfifo", join(home, "pipe")]);
  expect(fifo.exitCode).toBe(0);
  await expect(collect("~/pipe")).rejects.toMatchObject({ code: "INVALID_VALUE" });
});
