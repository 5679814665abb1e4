import { afterEach, beforeEach, expect, test } from "bun:test";
import { link, mkdtemp, readFile, rm, stat, symlink, writeFile } from "node:fs/promises";
import { join } from "node:path";
import {
  filesArchive,
  identityArchive,
  writeIdentityDisk,
} from "../../../../../src/daemon/engine/disks/identity-disk.ts";
import { runTool } from "../../../../../src/daemon/host/run-tool.ts";

let dir: string;
beforeEach(async () => {
  dir = await mkdtemp("/tmp/banger-identity-");
});
afterEach(async () => {
  await rm(dir, { recursive: true, force: true });
});

const identity = { hostKey: "secret", hostKeyPublic: "shared", authorizedKeys: "ssh-ed25519 A", gitConfig: "[user]\n" };

const NOTHING = { files: null, hasGrown: false };

/** What GNU tar lists: mode, owner, size, name. */
async function list(archive: Uint8Array): Promise<readonly string[]> {
  const path = join(dir, "listed.tar");
  await writeFile(path, archive);
  const { stdout } = await runTool(["tar", "--numeric-owner", "-tvf", path], { timeoutMs: 10_000 });
  return stdout
    .trimEnd()
    .split("\n")
    .map((line) => line.replace(/ +/g, " ").replace(/ \S+ \S+ (?=\S+$)/, " "));
}

test("secrets are root's alone; the mark comes first, by which the guest knows the disk", async () => {
  const archive = identityArchive(identity, NOTHING);
  expect(archive.length % 512).toBe(0);
  expect(Buffer.from(archive.subarray(0, 15)).toString()).toBe("banger-identity");
  expect(await list(archive)).toEqual([
    "-rw-r--r-- 0/0 0 banger-identity",
    "drwx------ 0/0 0 identity",
    "-rw------- 0/0 6 identity/ssh_host_ed25519_key",
    "-rw-r--r-- 0/0 6 identity/ssh_host_ed25519_key.pub",
    "-rw------- 0/0 13 identity/authorized_keys",
    "-rw-r--r-- 0/0 7 gitconfig",
  ]);
  expect(await list(identityArchive({ ...identity, gitConfig: null }, NOTHING))).not.toContain(
    "-rw-r--r-- 0/0 7 gitconfig",
  );
});

test("files for /root keep their modes, below directories of root's, the last one of a path", async () => {
  const deep = `/${"d".repeat(60)}/${"é".repeat(60)}/f`;
  const files = filesArchive([
    { path: "/.config/a b", mode: 0o640, contents: "1" },
    { path: "/.hushlogin", mode: 0o644, contents: "" },
    { path: deep as `/${string}`, mode: 0o755, contents: "deep" },
    { path: "/.hushlogin", mode: 0o600, contents: "last" },
  ]);
  const path = join(dir, "identity.img");
  await writeFile(path, identityArchive(identity, { files, hasGrown: true }));
  // As the guest takes them out.
  const root = join(dir, "root");
  await runTool(["mkdir", root], { timeoutMs: 10_000 });
  await runTool(["tar", "-xpf", path, "-C", root, "--strip-components=1", "root"], { timeoutMs: 10_000 });
  const seen = async (name: string): Promise<readonly [number, string]> => [
    (await stat(join(root, name))).mode & 0o7777,
    await readFile(join(root, name), "utf8"),
  ];
  expect(await seen(".config/a b")).toEqual([0o640, "1"]);
  expect(await seen(".hushlogin")).toEqual([0o600, "last"]);
  expect(await seen(deep)).toEqual([0o755, "deep"]);
  expect((await stat(join(root, ".config"))).mode & 0o777).toBe(0o700);
  // And the keys without the files.
  await runTool(["tar", "-xpf", path, "-C", dir, "--anchored", "--exclude=root"], { timeoutMs: 10_000 });
  expect(await readFile(join(dir, "has-files"), "utf8")).toBe("");
  expect(await readFile(join(dir, "grown"), "utf8")).toBe("");
  expect(await readFile(join(dir, "identity/ssh_host_ed25519_key"), "utf8")).toBe("secret");
});

test("is a new private file each time: what else has the old one's name or inode keeps what it had", async () => {
  const path = join(dir, "identity.img");
  const victim = join(dir, "victim");
  await writeFile(victim, "the owner's");
  await writeFile(path, "old");
  await link(path, join(dir, "in a jail"));
  await symlink(victim, `${path}.new`);
  await writeIdentityDisk(path, identityArchive(identity, NOTHING));
  expect(await stat(path)).toMatchObject({ nlink: 1 });
  expect((await stat(path)).mode & 0o777).toBe(0o600);
  expect(await readFile(join(dir, "in a jail"), "utf8")).toBe("old");
  expect(await readFile(victim, "utf8")).toBe("the owner's");
});
