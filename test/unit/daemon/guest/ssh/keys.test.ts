import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { mkdir, mkdtemp, readdir, readFile, rm, stat, writeFile } from "node:fs/promises";
import { join } from "node:path";
import * as v from "valibot";
import {
  ensureHostKey,
  ensureUserKey,
  forgetHost,
  knownHostsPath,
  readOwnKey,
  rememberHost,
  userKeyPath,
} from "../../../../../src/daemon/guest/ssh/keys.ts";
import { type Paths, rootlessPaths } from "../../../../../src/shared/places/paths.ts";
import { VmId } from "../../../../../src/shared/contract/schemas.ts";

const A = v.parse(VmId, "aaaaaaaaaaaa");
const B = v.parse(VmId, "bbbbbbbbbbbb");
const { signal } = new AbortController();

let home: string;
let paths: Paths;
let umask: number;
beforeEach(async () => {
  umask = process.umask(0o077);
  home = await mkdtemp("/tmp/banger-keys-");
  paths = rootlessPaths({}, home, 1000);
});
afterEach(async () => {
  process.umask(umask);
  await rm(home, { recursive: true, force: true });
});

describe("the user's key", () => {
  test("is made once, private, though many ask at once", async () => {
    const keys = await Promise.all(Array.from({ length: 6 }, async () => await ensureUserKey(paths)));
    expect(new Set(keys).size).toBe(1);
    expect(keys[0]).toStartWith("ssh-ed25519 ");
    expect((await stat(userKeyPath(paths))).mode & 0o077).toBe(0);
    expect((await readdir(paths.sshDir)).toSorted()).toEqual(["id_ed25519", "id_ed25519.pub"]);
    expect(await ensureUserKey(paths)).toBe(keys[0] ?? "");
  });

  test("its halves belong together", async () => {
    const shared = await ensureUserKey(paths);
    const child = Bun.spawn(["ssh-keygen", "-y", "-f", userKeyPath(paths)], { stdout: "pipe" });
    expect((await new Response(child.stdout).text()).split(" ")[1]?.trim()).toBe(shared.split(" ")[1]?.trim() ?? "");
  });
});

describe("a key of the user's own", () => {
  test("its public half is read from beside it, in the home when it begins with ~/", async () => {
    await mkdir(join(home, ".ssh"));
    await writeFile(join(home, ".ssh/id.pub"), "ssh-ed25519 AAAAkey me@here\n");
    expect(await readOwnKey("~/.ssh/id", home)).toBe("ssh-ed25519 AAAAkey me@here\n");
    expect(await readOwnKey(join(home, ".ssh/id"), "/nowhere")).toBe("ssh-ed25519 AAAAkey me@here\n");
  });

  test("what is missing, or could add lines of its own, is refused", async () => {
    await expect(readOwnKey("~/.ssh/none", home)).rejects.toMatchObject({ code: "CONFIG_INVALID" });
    for (const text of ["", "no key", "ssh-ed25519 AAAA\nssh-rsa BBBB", 'command="x" ssh-ed25519 AAAA']) {
      await writeFile(join(home, "id.pub"), text);
      await expect(readOwnKey("~/id", home)).rejects.toMatchObject({ code: "CONFIG_INVALID" });
    }
  });
});

describe("known hosts", () => {
  const known = async (): Promise<string[]> =>
    (await readFile(knownHostsPath(paths), "utf8")).split("\n").filter((line) => line !== "");

  test("a host is pinned under its alias once, replaced when its key is, and forgotten alone", async () => {
    await mkdir(paths.sshDir, { recursive: true });
    await rememberHost(paths, A, "ssh-ed25519 AAAAone comment\n");
    await rememberHost(paths, A, "ssh-ed25519 AAAAone comment\n");
    await rememberHost(paths, B, "ssh-ed25519 AAAAtwo\n");
    expect(await known()).toEqual([`banger-${A} ssh-ed25519 AAAAone`, `banger-${B} ssh-ed25519 AAAAtwo`]);
    await rememberHost(paths, A, "ssh-ed25519 AAAAnew\n");
    expect((await known()).filter((line) => line.startsWith(`banger-${A} `))).toEqual([
      `banger-${A} ssh-ed25519 AAAAnew`,
    ]);
    await forgetHost(paths, A);
    await forgetHost(paths, A);
    expect(await known()).toEqual([`banger-${B} ssh-ed25519 AAAAtwo`]);
  });

  test("many at once lose nothing", async () => {
    await mkdir(paths.sshDir, { recursive: true });
    const ids = Array.from({ length: 30 }, (_, index) => v.parse(VmId, index.toString(16).padStart(12, "0")));
    await Promise.all(ids.map(async (id) => await rememberHost(paths, id, "ssh-ed25519 AAAA")));
    await Promise.all(ids.slice(0, 15).map(async (id) => await forgetHost(paths, id)));
    expect((await known()).length).toBe(15);
  });
});

test("a VM keeps its host key from start to start", async () => {
  const first = await ensureHostKey(home, A, signal);
  expect(first.shared).toContain(`banger-${A}`);
  expect(await ensureHostKey(home, A, signal)).toEqual(first);
  expect((await stat(join(home, "ssh_host_ed25519_key"))).mode & 0o077).toBe(0);
});
