/** cp as a process, against a "guest" that is this machine. */

import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { randomBytes } from "node:crypto";
import { chmod, mkdir, readdir, readFile, readlink, stat, symlink, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { guestPath, parseEndpoint } from "../../../src/cmd/copy.ts";
import { type FakeDaemon, startFakeDaemon } from "../../support/fake-daemon.ts";

let daemon: FakeDaemon;
let host: string;
let guest: string;
beforeAll(async () => {
  daemon = await startFakeDaemon();
  await daemon.actAsGuest();
  [host, guest] = [join(daemon.dir, "host"), join(daemon.dir, "guest")];
  await mkdir(join(host, "tree/sub dir"), { recursive: true });
  await mkdir(join(guest, "there"), { recursive: true });
  await writeFile(join(host, "tree/sub dir/-dash\nline"), randomBytes(3000));
  await writeFile(join(host, "tree/tool"), "#!/bin/sh\n");
  await chmod(join(host, "tree/tool"), 0o755);
  await symlink("tool", join(host, "tree/link"));
  await writeFile(join(host, "note"), "hello");
  await symlink("note", join(host, "note-link"));
});
afterAll(async () => await daemon[Symbol.asyncDispose]());

const ok = async (...words: string[]): Promise<void> => {
  expect(await daemon.run(["cp", ...words])).toEqual({ status: 0, stdout: "", stderr: "" });
};
const list = async (dir: string): Promise<string[]> => (await readdir(dir, { recursive: true })).sort();

describe("in and out", () => {
  test("a tree under a new name, with modes, links and odd names", async () => {
    await ok(join(host, "tree"), `box:${guest}/copy`);
    await ok(`box:${guest}/copy`, join(host, "back"));
    expect(await list(join(host, "back"))).toEqual(await list(join(host, "tree")));
    expect((await stat(join(host, "back/tool"))).mode & 0o777).toBe(0o755);
    expect(await readlink(join(host, "back/link"))).toBe("tool");
    expect(await readFile(join(host, "back/sub dir/-dash\nline"))).toEqual(
      await readFile(join(host, "tree/sub dir/-dash\nline")),
    );
  });

  test("into an existing directory under its own name, there and here", async () => {
    await ok(join(host, "note"), `box:${guest}/there`);
    await ok(join(host, "tree/"), `box:${guest}/there/`);
    expect((await readdir(join(guest, "there"))).sort()).toEqual(["note", "tree"]);
    await mkdir(join(host, "here"));
    await ok(`box:${guest}/there/note`, join(host, "here"));
    expect(await readFile(join(host, "here/note"), "utf8")).toBe("hello");
  });

  test("over an existing file; a link to a file as the file", async () => {
    await writeFile(join(guest, "old"), "old");
    await ok(join(host, "note-link"), `box:${guest}/old`);
    expect((await stat(join(guest, "old"))).isFile()).toBe(true);
    expect(await readFile(join(guest, "old"), "utf8")).toBe("hello");
    await symlink("old", join(guest, "old-link"));
    await ok(`box:${guest}/old-link`, join(host, "fetched"));
    expect(await readFile(join(host, "fetched"), "utf8")).toBe("hello");
  });

  test("- is a tar stream", async () => {
    const packed = Bun.spawnSync(["tar", "-c", "-C", host, "note"]);
    expect(await daemon.run(["cp", "-", `box:${guest}/made/new`], packed.stdout)).toMatchObject({ status: 0 });
    expect(await readFile(join(guest, "made/new/note"), "utf8")).toBe("hello");
    const child = daemon.spawn(["cp", `box:${guest}/made`, "-"]);
    const listed = Bun.spawnSync(["tar", "-t"], { stdin: await new Response(child.stdout).bytes() });
    expect(listed.stdout.toString().trim().split("\n")).toEqual(["made/", "made/new/", "made/new/note"]);
  });
});

describe("refused", () => {
  test.each([
    ["a missing file here", () => [join(host, "none"), `box:${guest}/x`]],
    ["a missing file there", () => [`box:${guest}/none`, join(host, "x")]],
    ["a missing directory there", () => [join(host, "note"), `box:${guest}/no/such`]],
    ["a missing directory here", () => [`box:${guest}/old`, join(host, "no/such")]],
    ["a tree over a file", () => [join(host, "tree"), `box:${guest}/old`]],
    ["a file where a directory is asked for", () => [`box:${guest}/old`, `${join(host, "newdir")}/`]],
    ["everything", () => ["box:/", join(host, "x")]],
  ])("%s", async (_, words) => {
    const [before, inside] = [await list(host), await list(guest)];
    const result = await daemon.run(["cp", ...words()]);
    expect(result.status).not.toBe(0);
    expect(result.stderr).toMatch(/^error: .* \[(?:FAILED|INVALID_VALUE)\]/);
    expect(await list(host)).toEqual(before);
    expect(await list(guest)).toEqual(inside);
  });

  test("whatever else a guest packs: only the name that was asked for is unpacked", async () => {
    const evil = await startFakeDaemon();
    const work = join(evil.dir, "work");
    await mkdir(join(work, "sub"), { recursive: true });
    for (const name of [".bashrc", "asked", "sub/escaped"]) await writeFile(join(work, name), "evil");
    const target = join(evil.dir, "target");
    await mkdir(target);
    const stream = Bun.spawnSync([
      "tar",
      "-c",
      "-P",
      "-C",
      join(work, "sub"),
      "../.bashrc",
      "escaped",
      "-C",
      work,
      "asked",
      "/etc/hostname",
    ]);
    await writeFile(join(evil.dir, "stream"), stream.stdout);
    await evil.actAsGuest(`exec cat ${join(evil.dir, "stream")}`);
    await evil.run(["cp", "box:/x/asked", target]);
    expect(await readdir(target)).toEqual(["asked"]);
    // .bun is Bun's own cache of a program that isn't compiled.
    const left = (await readdir(evil.dir)).filter((name) => name !== ".bun").sort();
    expect(left).toEqual(["banger", "ssh", "stream", "target", "work"]);
    await evil[Symbol.asyncDispose]();
  });
});

test("what is where", () => {
  expect(parseEndpoint("box:/x")).toEqual({ kind: "guest", vm: "box", path: "/x" });
  expect(parseEndpoint("./a:b")).toEqual({ kind: "host", path: "./a:b" });
  expect(parseEndpoint("/a:b")).toEqual({ kind: "host", path: "/a:b" });
  expect(parseEndpoint("-")).toEqual({ kind: "stream" });
  expect(["", "x/../y", "~/z", "/a/", "..", "/"].map(guestPath)).toEqual([
    "/root",
    "/root/y",
    "/root/z",
    "/a/",
    "/",
    "/",
  ]);
});
