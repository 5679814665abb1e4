import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { chownSync, mkdirSync } from "node:fs";
import { cp, mkdtemp, rename, rm, symlink } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { relocate, rootlessPaths } from "../../../../src/shared/places/paths.ts";
import {
  chooseRuntimeDir,
  findRuntimeDir,
  recordRuntimeDir,
  SOCKET_PATH_LIMIT_BYTES,
} from "../../../../src/shared/places/runtime-directory.ts";

const UID = process.getuid?.() ?? -1;
let base: string;
beforeAll(async () => {
  base = await mkdtemp(join(tmpdir(), "runtime-"));
});
afterAll(async () => await rm(base, { recursive: true, force: true }));

/** A state directory and a runtime directory that know each other. */
async function makePair(name: string): Promise<{ readonly state: string; readonly runtime: string }> {
  const [state, runtime] = [join(base, name, "state"), join(base, name, "run")];
  for (const dir of [state, runtime]) mkdirSync(dir, { recursive: true, mode: 0o700 });
  await recordRuntimeDir(state, runtime);
  return { state, runtime };
}

describe("chosen by the environment", () => {
  test("two states never share one, with XDG_RUNTIME_DIR and without", () => {
    for (const env of [{}, { XDG_RUNTIME_DIR: "/run/user/7" }]) {
      const [a, b] = ["/home/a/.local/state/banger", "/home/b/.local/state/banger"].map((state) =>
        chooseRuntimeDir(env, 7, state),
      );
      expect(a).not.toBe(b);
    }
  });

  test("every socket fits, however long XDG_RUNTIME_DIR is", () => {
    // ssh binds its control socket under the name and 17 characters more.
    const names = [
      "bangerd.sock",
      ...["qmp.sock", "ssh.sock.0123456789abcdef"].map((name) => `vms/0123456789ab/${name}`),
    ];
    for (let length = 1; length < 300; length++) {
      const dir = chooseRuntimeDir(
        { XDG_RUNTIME_DIR: `/${"x".repeat(length)}` },
        4_294_967_294,
        "/home/me/.local/state/banger",
      );
      for (const name of names) expect(Buffer.byteLength(join(dir, name))).toBeLessThanOrEqual(SOCKET_PATH_LIMIT_BYTES);
    }
  });

  test("bytes count, not characters; a relative one is ignored", () => {
    expect(chooseRuntimeDir({ XDG_RUNTIME_DIR: `/${"ü".repeat(30)}` }, 7, "/s")).toStartWith("/tmp/banger-runtime-7-");
    expect(chooseRuntimeDir({ XDG_RUNTIME_DIR: "run" }, 7, "/s")).toStartWith("/tmp/banger-runtime-7-");
    expect(chooseRuntimeDir({ XDG_RUNTIME_DIR: "/run/user/7" }, 7, "/s")).toStartWith("/run/user/7/banger-");
  });
});

describe("found through the state directory", () => {
  test("whatever the environment says", async () => {
    const home = join(base, "home");
    const state = join(home, ".local/state/banger");
    const runtime = join(base, "elsewhere");
    for (const dir of [state, runtime]) mkdirSync(dir, { recursive: true, mode: 0o700 });
    const early = rootlessPaths({ XDG_RUNTIME_DIR: "/run/user/7" }, home, UID);
    await recordRuntimeDir(state, runtime);
    for (const env of [{}, { XDG_RUNTIME_DIR: "/run/user/0" }, { XDG_RUNTIME_DIR: base }])
      expect(rootlessPaths(env, home, UID)).toMatchObject({
        runtimeDir: runtime,
        apiSocket: join(runtime, "bangerd.sock"),
      });
    expect(relocate(early).runtimeDir).toBe(runtime);
  });

  test("through a link to it, too", async () => {
    const { state, runtime } = await makePair("linked");
    await symlink(state, join(base, "linked", "link"));
    expect(findRuntimeDir(join(base, "linked", "link"))).toBe(runtime);
  });

  test("recorded again, the newer one counts", async () => {
    const { state } = await makePair("again");
    const other = join(base, "again", "other");
    mkdirSync(other, { mode: 0o700 });
    await recordRuntimeDir(state, other);
    await recordRuntimeDir(state, other);
    expect(findRuntimeDir(state)).toBe(other);
  });
});

describe("not taken for this state's", () => {
  test("a copied state directory does not lead to the daemon of the original", async () => {
    const { state, runtime } = await makePair("copied");
    const copy = join(base, "copied", "copy");
    await cp(state, copy, { recursive: true, verbatimSymlinks: true });
    expect(findRuntimeDir(state)).toBe(runtime);
    expect(findRuntimeDir(copy)).toBeNull();
  });

  test("a runtime directory that is gone, or a link or a file in its place", async () => {
    const { state, runtime } = await makePair("gone");
    await rename(runtime, `${runtime}.away`);
    expect(findRuntimeDir(state)).toBeNull();
    await symlink(`${runtime}.away`, runtime);
    expect(findRuntimeDir(state)).toBeNull();
    await rm(runtime);
    await Bun.write(runtime, "");
    expect(findRuntimeDir(state)).toBeNull();
  });

  test.skipIf(UID !== 0)("another user's directory under the name of one that is gone (needs root)", async () => {
    const { state, runtime } = await makePair("taken");
    chownSync(runtime, 65_534, 65_534);
    expect(findRuntimeDir(state)).toBeNull();
  });
});
if (UID !== 0) console.error("skip: a directory of another user needs root to be made");
