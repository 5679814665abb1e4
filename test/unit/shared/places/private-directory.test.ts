import { afterAll, beforeAll, expect, test } from "bun:test";
import { chmod, lstat, mkdir, mkdtemp, rm, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { checkPrivateDirectory, ensurePrivateDirectory } from "../../../../src/shared/places/private-directory.ts";

let base: string;
beforeAll(async () => {
  base = await mkdtemp(join(tmpdir(), "private-"));
});
afterAll(async () => {
  await rm(base, { recursive: true, force: true });
});

const modeOf = async (path: string): Promise<number> => (await lstat(path)).mode & 0o777;

test("made 0700, parents too, whatever the umask", async () => {
  const before = process.umask(0);
  try {
    await ensurePrivateDirectory(join(base, "a/b"));
  } finally {
    process.umask(before);
  }
  expect([await modeOf(join(base, "a")), await modeOf(join(base, "a/b"))]).toEqual([0o700, 0o700]);
});

test("a looser one is tightened", async () => {
  await mkdir(join(base, "loose"));
  await chmod(join(base, "loose"), 0o777);
  await ensurePrivateDirectory(join(base, "loose"));
  expect(await modeOf(join(base, "loose"))).toBe(0o700);
});

test("a link, to a directory or to nothing, and a file are refused", async () => {
  await mkdir(join(base, "target"), { mode: 0o755 });
  await symlink(join(base, "target"), join(base, "link"));
  await symlink(join(base, "nowhere"), join(base, "dangling"));
  await writeFile(join(base, "file"), "");
  for (const name of ["link", "dangling", "file"]) {
    await expect(ensurePrivateDirectory(join(base, name))).rejects.toMatchObject({ code: "UNSAFE_DIRECTORY" });
  }
  expect(await modeOf(join(base, "target"))).toBe(0o755);
});

test("looking makes nothing", async () => {
  expect(await checkPrivateDirectory(join(base, "absent"))).toBe(false);
  expect(await lstat(join(base, "absent")).catch(() => null)).toBeNull();
  await mkdir(join(base, "present"), { mode: 0o700 });
  expect(await checkPrivateDirectory(join(base, "present"))).toBe(true);
});
