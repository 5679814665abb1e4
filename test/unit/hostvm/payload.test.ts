import { afterAll, expect, test } from "bun:test";
import { chmod, mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { findFirecracker } from "../../hostvm/support/payload.ts";

const dir = await mkdtemp(join(tmpdir(), "banger-payload-"));
afterAll(async () => await rm(dir, { recursive: true, force: true }));

async function programs(name: string, ...files: readonly string[]): Promise<string> {
  const directory = join(dir, name);
  await mkdir(directory);
  for (const file of files) {
    await writeFile(join(directory, file), "");
    await chmod(join(directory, file), 0o755);
  }
  return directory;
}

const fetched = async () => ({ directory: "/fetched" });
const notFetched = async () => ({ why: "no pip" });
const never = async () => {
  throw new Error("fetched although there is one");
};

test("a developer's own Firecracker wins, by the variable first and then by PATH", async () => {
  const named = await programs("named", "firecracker", "jailer");
  const onPath = await programs("path", "firecracker", "jailer");
  const env = { BANGER_TEST_FIRECRACKER_DIR: named, PATH: onPath };
  expect(await findFirecracker(env, never)).toEqual({ directory: named, isOld: false });
  expect(await findFirecracker({ PATH: onPath }, never)).toEqual({ directory: onPath, isOld: false });
});

test("without one, or without its jailer, the fetched one is taken, which only a test build accepts", async () => {
  const half = await programs("half", "firecracker");
  for (const PATH of [half, dir, undefined])
    expect(await findFirecracker({ PATH }, fetched)).toEqual({ directory: "/fetched", isOld: true });
  expect(await findFirecracker({ PATH: dir }, notFetched)).toEqual({ why: "no pip" });
});

test("a variable that names nothing is a reason to skip, not to take another", async () => {
  const env = { BANGER_TEST_FIRECRACKER_DIR: join(dir, "absent"), PATH: "" };
  expect(await findFirecracker(env, never)).toEqual({
    why: `no firecracker and jailer in ${join(dir, "absent")} (BANGER_TEST_FIRECRACKER_DIR)`,
  });
});
