import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { chmod, lstat, mkdtemp, readdir, readFile, rm, stat, symlink, writeFile } from "node:fs/promises";
import { join } from "node:path";
import fc from "fast-check";
import {
  bangerSshConfig,
  installInclude,
  removeInclude,
  withBlock,
  withoutBlock,
} from "../../../src/cmd/ssh-config.ts";
import { rootlessPaths } from "../../../src/shared/paths.ts";

let dir: string;
beforeEach(async () => {
  dir = await mkdtemp("/tmp/banger-ssh-config-");
});
afterEach(async () => await rm(dir, { recursive: true }));

const INCLUDED = "/home/me/.local/state/banger/ssh/config";

describe("the marked block", () => {
  test("stands before everything else, once", () => {
    const text = withBlock(withBlock("Host a\n  User b\n", "/old"), INCLUDED);
    expect(text).toBe(`# >>> banger >>>\nInclude "${INCLUDED}"\n# <<< banger <<<\nHost a\n  User b\n`);
  });

  test("goes and leaves every byte of the rest", () => {
    fc.assert(
      fc.property(fc.string(), (text) => {
        fc.pre(!text.includes("banger >>>"));
        expect(withoutBlock(withBlock(text, INCLUDED))).toBe(text);
      }),
    );
  });

  test("without its end is left alone", () => {
    const torn = "# >>> banger >>>\nHost mine\n";
    expect(withoutBlock(torn)).toBe(torn);
  });
});

describe("the user's file", () => {
  test("that isn't there is made private, and goes again", async () => {
    const path = join(dir, "new/config");
    expect(await installInclude(path, INCLUDED)).toBe(true);
    expect((await stat(path)).mode & 0o777).toBe(0o600);
    expect((await stat(join(dir, "new"))).mode & 0o777).toBe(0o700);
    expect(await installInclude(path, INCLUDED)).toBe(false);
    expect(await removeInclude(path)).toBe(true);
    expect(await readdir(join(dir, "new"))).toEqual([]);
    expect(await removeInclude(path)).toBe(false);
  });

  test("keeps its mode, and stays a link where it was one", async () => {
    const target = join(dir, "dotfiles");
    const path = join(dir, "config");
    await writeFile(target, "Host x\n");
    await chmod(target, 0o640);
    await symlink(target, path);
    await installInclude(path, INCLUDED);
    expect((await lstat(path)).isSymbolicLink()).toBe(true);
    expect((await stat(target)).mode & 0o777).toBe(0o640);
    await removeInclude(path);
    expect(await readFile(target, "utf8")).toBe("Host x\n");
    expect((await readdir(dir)).sort()).toEqual(["config", "dotfiles"]);
  });
});

test("banger's own file can't be steered by odd paths", () => {
  const text = bangerSshConfig(rootlessPaths({}, "/home/a b%h'c", 1000));
  expect(text).toContain(`IdentityFile "/home/a b%%h'c/.local/state/banger/ssh/id_ed25519"`);
  expect(() => bangerSshConfig(rootlessPaths({}, '/home/"\nProxyCommand id', 1000))).toThrow("can't hold the path");
});
