/** cp as a process, against a "guest" that is this machine, by each way into it. */

import { afterAll, beforeAll, beforeEach, describe, expect, test } from "bun:test";
import { randomBytes } from "node:crypto";
import {
  chmod,
  link,
  lstat,
  mkdir,
  mkdtemp,
  open,
  readdir,
  readFile,
  readlink,
  stat,
  symlink,
  writeFile,
} from "node:fs/promises";
import { join, resolve } from "node:path";
import { planPack } from "../../../src/cmd/guest/copy/endpoint.ts";
import { unpackArgv } from "../../../src/cmd/guest/copy/guest-lines.ts";
import { startAgent, type TestAgent } from "../../support/agent.ts";
import { makeDevice } from "../../support/devices.ts";
import { type FakeDaemon, startFakeDaemon } from "../../support/fake-daemon.ts";

describe.each(["agent", "ssh"] as const)("by %s", (way) => {
  let daemon: FakeDaemon;
  let agent: TestAgent | null = null;
  let host: string;
  let guest: string;
  beforeAll(async () => {
    daemon = await startFakeDaemon();
    if (way === "ssh") await daemon.actAsGuest();
    else {
      agent = await startAgent();
      await daemon.actAsAgentGuest(agent.socket);
    }
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
  afterAll(async () => {
    await daemon[Symbol.asyncDispose]();
    await agent?.[Symbol.asyncDispose]();
  });

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
      await ok(join(host, "note"), `box:${guest}/there/`);
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

  describe("as every other cp", () => {
    let work: string;
    beforeEach(async () => {
      work = await mkdtemp(join(daemon.dir, "cp-"));
      await mkdir(join(work, "foo/sub"), { recursive: true });
      await writeFile(join(work, "foo/a"), "a");
      await writeFile(join(work, "foo/sub/b"), "b");
      await symlink("foo", join(work, "link"));
    });
    const text = async (name: string): Promise<string> => await readFile(join(work, name), "utf8");
    /** The same copy into the guest and out of it: both are this machine. */
    const bothWays = (
      name: string,
      run: (from: (path: string) => string, to: (path: string) => string) => Promise<void>,
    ) => {
      const guest = (path: string): string => `box:${work}/${path}`;
      const here = (path: string): string => `${work}/${path}`;
      test(`${name}, in`, async () => await run(here, guest));
      test(`${name}, out`, async () => await run(guest, here));
    };

    for (const dot of ["foo/.", "foo/sub/..", "foo/./"]) {
      bothWays(`${dot} is what it holds`, async (from, to) => {
        await mkdir(join(work, "there"));
        await chmod(join(work, "there"), 0o700);
        await ok(from(dot), to("there"));
        await ok(from(dot), to("fresh"));
        for (const dir of ["there", "fresh"]) expect(await list(join(work, dir))).toEqual(["a", "sub", "sub/b"]);
        // sshd refuses keys when /root becomes writable to others.
        expect((await stat(join(work, "there"))).mode & 0o777).toBe(0o700);
      });
    }

    bothWays("link/ is the directory it leads to, link the link", async (from, to) => {
      await mkdir(join(work, "there"));
      await ok(from("link/"), to("there"));
      expect(await list(join(work, "there"))).toEqual(["link", "link/a", "link/sub", "link/sub/b"]);
      await ok(from("link/"), to("fresh"));
      expect(await list(join(work, "fresh"))).toEqual(["a", "sub", "sub/b"]);
      await ok(from("link"), to("as-link"));
      expect(await readlink(join(work, "as-link"))).toBe("foo");
    });

    bothWays("trees merge, file by file", async (from, to) => {
      await mkdir(join(work, "there/foo/sub"), { recursive: true });
      await writeFile(join(work, "there/foo/keep"), "keep");
      await writeFile(join(work, "there/foo/sub/b"), "old");
      await ok(from("foo"), to("there"));
      expect(await list(join(work, "there/foo"))).toEqual(["a", "keep", "sub", "sub/b"]);
      expect(await text("there/foo/sub/b")).toBe("b");
    });

    bothWays("several sources, and -r, -a", async (from, to) => {
      await mkdir(join(work, "there"));
      await ok("-r", from("foo/a"), from("foo/sub"), to("there"));
      await ok("-a", from("foo"), to("there"));
      expect(await readdir(join(work, "there"))).toEqual(expect.arrayContaining(["a", "sub", "foo"]));
      for (const target of ["foo/a", "not-there"]) {
        const before = await list(work);
        const result = await daemon.run(["cp", from("foo/a"), from("foo/sub"), to(target)]);
        expect(result.stderr).toContain("several sources need a directory");
        expect(result.status).not.toBe(0);
        expect(await list(work)).toEqual(before);
      }
    });

    bothWays("a file's other names stay its names", async (from, to) => {
      await writeFile(join(work, "one"), "a longer text than the new one");
      await link(join(work, "one"), join(work, "two"));
      await symlink("one", join(work, "three"));
      await ok(from("foo/a"), to("three"));
      for (const name of ["one", "two", "three"]) expect(await text(name)).toBe("a");
      expect((await stat(join(work, "two"))).nlink).toBe(2);
      await writeFile(join(work, "plain"), "old");
      await symlink("plain", join(work, "alias"));
      await ok(from("foo/a"), to("alias"));
      expect([await text("plain"), await readlink(join(work, "alias"))]).toEqual(["a", "plain"]);
    });

    bothWays("devices and fifos are written into, and stay", async (from, to) => {
      const fifo = join(work, "fifo");
      expect(Bun.spawnSync(["mkfifo", fifo]).exitCode).toBe(0);
      const reader = Bun.spawn(["cat", fifo], { stdout: "pipe" });
      await ok(from("foo/a"), to("fifo"));
      expect(await new Response(reader.stdout).text()).toBe("a");
      expect((await lstat(fifo)).isFIFO()).toBe(true);
      await makeDevice(join(work, "null"), "null");
      await symlink("null", join(work, "link-to-null"));
      for (const name of ["null", "link-to-null"]) {
        await ok(from("foo/a"), to(name));
        expect((await stat(join(work, name))).isCharacterDevice()).toBe(true);
      }
      const refused = await daemon.run(["cp", from("foo"), to("null")]);
      expect(refused.status).not.toBe(0);
      expect(refused.stderr).toMatch(/is not a (?:file|directory)/);
      await makeDevice(join(work, "full"), "full");
      const full = await daemon.run(["cp", from("foo/a"), to("full")]);
      expect(full.stderr).toContain("No space left on device");
    });

    test("/proc/self/fd/1, where /dev/stdout leads, is this command's own output", async () => {
      expect(await daemon.run(["cp", `box:${work}/foo/a`, "/proc/self/fd/1"])).toEqual({
        status: 0,
        stdout: "a",
        stderr: "",
      });
    });

    bothWays("a link to nothing is no place for a copy", async (from, to) => {
      await symlink("nowhere", join(work, "dangling"));
      const result = await daemon.run(["cp", from("foo/a"), to("dangling")]);
      expect(result.status).not.toBe(0);
      expect(result.stderr).toContain("is a broken link");
      expect(await readlink(join(work, "dangling"))).toBe("nowhere");
      expect((await readdir(work)).sort()).toEqual(["dangling", "foo", "link"]);
    });

    bothWays("holes stay holes", async (from, to) => {
      const SIZE = 200 * 1024 ** 2;
      await mkdir(join(work, "images"));
      const file = await open(join(work, "images/disk"), "w");
      await file.write("begin", 0);
      await file.write("end", SIZE - 3);
      await file.close();
      await ok(from("images/disk"), to("one"));
      await ok(from("images"), to("all"));
      for (const name of ["one", "all/disk"]) {
        const { size, blocks } = await stat(join(work, name));
        expect(size).toBe(SIZE);
        expect(blocks * 512).toBeLessThan(1024 ** 2);
        const tail = Bun.file(join(work, name)).slice(SIZE - 3);
        expect(await tail.text()).toBe("end");
      }
    });

    test("holes become zeros in a guest whose tar knows none", async () => {
      const plain = await startFakeDaemon();
      const bin = join(plain.dir, "bin");
      await mkdir(bin);
      await writeFile(
        join(bin, "tar"),
        '#!/bin/sh\ncase " $* " in *" -S "*|*" --format=pax "*) exit 1;; *" --version "*) echo "tar (busybox) 1.36"; exit;; esac\nexec /usr/bin/tar "$@"\n',
      );
      await chmod(join(bin, "tar"), 0o755);
      await plain.actAsGuest(`for line do :; done; PATH=${bin}:$PATH exec sh -c "$line"`);
      const file = await open(join(work, "hole"), "w");
      await file.write("end", 5_000_000);
      await file.close();
      for (const words of [
        [join(work, "hole"), `box:${work}/in`],
        [`box:${work}/hole`, join(work, "out")],
      ])
        expect(await plain.run(["cp", ...words])).toEqual({ status: 0, stdout: "", stderr: "" });
      for (const name of ["in", "out"])
        expect(await readFile(join(work, name))).toEqual(await readFile(join(work, "hole")));
      await plain[Symbol.asyncDispose]();
    });

    bothWays("sockets are named and left out", async (from, to) => {
      const server = Bun.listen({ unix: join(work, "foo/socket"), socket: { data: () => undefined } });
      const result = await daemon.run(["cp", from("foo"), to("copy")]);
      server.stop(true);
      expect(result.status).toBe(0);
      expect(result.stderr).toMatch(/^warning: .*foo\/socket: socket ignored\n$/);
      expect(await list(join(work, "copy"))).toEqual(["a", "sub", "sub/b"]);
    });

    bothWays("names that aren't UTF-8, and directories nobody may write", async (from, to) => {
      const odd = Buffer.concat([Buffer.from(`${work}/foo/sub/`), Buffer.from([0xff, 0x0a, 0x41])]);
      await writeFile(odd, "odd");
      await chmod(join(work, "foo/sub"), 0o555);
      await ok(from("foo"), to("copy"));
      expect((await stat(join(work, "copy/sub"))).mode & 0o777).toBe(0o555);
      const names = await readdir(join(work, "copy/sub"), { encoding: "buffer" });
      expect(names.map((name) => name.toString("latin1")).sort()).toEqual(["b", "\u00ff\nA"]);
    });

    test("a copy that fails on its way into a directory leaves nothing under its name", async () => {
      const evil = await startFakeDaemon();
      await writeFile(join(evil.dir, "big"), randomBytes(300_000));
      await evil.actAsGuest(`tar -c -C ${evil.dir} big | head -c 200000; exit 1`);
      await mkdir(join(evil.dir, "there"));
      expect((await evil.run(["cp", "box:/x/big", join(evil.dir, "there")])).status).toBe(1);
      expect(await readdir(join(evil.dir, "there"))).toEqual([]);
      // Into the guest: its shell, and a connection that breaks off.
      const argv = unpackArgv(join(evil.dir, "there"), planPack(join(evil.dir, "big"), "big"), {
        isSparse: false,
        isOneOfSeveral: false,
      });
      const packed = Bun.spawnSync(["tar", "-c", "-C", evil.dir, "big"]).stdout.subarray(0, 200_000);
      expect(Bun.spawnSync(argv, { stdin: packed }).exitCode).not.toBe(0);
      expect(await readdir(join(evil.dir, "there"))).toEqual([]);
      await evil[Symbol.asyncDispose]();
    });

    test("without tar on this host", async () => {
      const bin = join(work, "bin");
      await mkdir(bin);
      const child = Bun.spawn([process.execPath, resolve("src/main.ts"), "cp", `${work}/foo/a`, "box:/tmp"], {
        env: { ...daemon.env, PATH: bin },
        stderr: "pipe",
      });
      expect(await new Response(child.stderr).text()).toContain(
        "tar is not installed, and banger cp needs it [TOOL_MISSING]",
      );
      expect(await child.exited).toBe(30);
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
  });
});
