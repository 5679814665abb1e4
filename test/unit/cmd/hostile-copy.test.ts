/** A guest that answers `cp` with any tar stream it likes, against the CLI as a process. */

import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { link, lstat, mkdir, readdir, readFile, readlink, symlink, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { type FakeDaemon, startFakeDaemon } from "../../support/fake-daemon.ts";
import { makeArchive, makePax, type Member } from "../../support/tar.ts";

let guest: FakeDaemon;
let target: string;
let outside: string;
beforeEach(async () => {
  guest = await startFakeDaemon();
  [target, outside] = [join(guest.dir, "target"), join(guest.dir, "outside")];
  await mkdir(target);
  await mkdir(outside);
  await writeFile(join(outside, "mine"), "mine");
});
afterEach(async () => await guest[Symbol.asyncDispose]());

async function send(parts: readonly (Member | Buffer)[]): Promise<void> {
  await writeFile(join(guest.dir, "stream"), makeArchive(parts));
  await guest.actAsGuest(`exec cat ${join(guest.dir, "stream")}`);
}

/** Every entry below a directory with what it is. */
async function describeTree(dir: string): Promise<string[]> {
  const names = (await readdir(dir, { recursive: true })).sort();
  return await Promise.all(
    names.map(async (name) => {
      const info = await lstat(join(dir, name));
      const kind = info.isFile() ? "file" : info.isDirectory() ? "dir" : info.isSymbolicLink() ? "link" : "special";
      return `${name} ${kind}${kind === "link" ? "" : ` ${(info.mode & 0o7777).toString(8)}`}`;
    }),
  );
}

const DIRECTORY: Member = { name: "asked/", type: "5", mode: 0o755 };

describe("modes that give rights", () => {
  test.each([
    ["set-uid of a file", [{ name: "asked", mode: 0o4755, data: "x" }], ["asked file 755"]],
    ["set-gid of a file", [{ name: "asked", mode: 0o2755 }], ["asked file 755"]],
    ["both and sticky", [{ name: "asked", mode: 0o7777 }], ["asked file 777"]],
    [
      "of a directory and of what it holds",
      [
        { ...DIRECTORY, mode: 0o7777 },
        { name: "asked/sh", mode: 0o6711, data: "x" },
      ],
      ["asked dir 777", "asked/sh file 711"],
    ],
    ["in binary numbers", [setBinaryMode({ name: "asked", data: "x" })], ["asked file 755"]],
    [
      "of a second name of the same file",
      [DIRECTORY, { name: "asked/a", mode: 0o4755 }, { name: "asked/b", type: "1", link: "asked/a", mode: 0o4755 }],
      ["asked dir 755", "asked/a file 755", "asked/b file 755"],
    ],
  ] as [string, (Member | Buffer)[], string[]][])("%s", async (_, parts, expected) => {
    await send(parts);
    // Into a directory, under a new name, and with the contents asked for.
    expect((await guest.run(["cp", "box:/x/asked", target])).status).toBe(0);
    expect(await describeTree(target)).toEqual(expected);
    expect((await guest.run(["cp", "box:/x/asked", join(outside, "asked")])).status).toBe(0);
    expect((await describeTree(outside)).filter((line) => !line.startsWith("mine"))).toEqual(expected);
  });

  test("neither in a stream", async () => {
    await send([
      { name: "asked", mode: 0o4755, data: "x" },
      { name: "dev", type: "3", major: 1, minor: 3 },
    ]);
    const child = guest.spawn(["cp", "box:/x/asked", "-"]);
    const stream = await new Response(child.stdout).bytes();
    expect(Bun.spawnSync(["tar", "-tv"], { stdin: stream }).stdout.toString()).toMatch(/^-rwxr-xr-x [^\n]* asked\n$/);
  });
});

/** GNU's binary form of 04755. */
function setBinaryMode(member: Member): Buffer {
  const archive = makeArchive([member]).subarray(0, -1024);
  archive.fill(0, 100, 108);
  archive[100] = 0x80;
  archive.writeUInt32BE(0o4755, 104);
  archive.write("        ", 148);
  const sum = archive.subarray(0, 512).reduce((total, byte) => total + byte, 0);
  archive.write(`${sum.toString(8).padStart(6, "0")}\0 `, 148, "latin1");
  return archive;
}

describe("what isn't a file", () => {
  test.each([
    ["a character device", "3", "character device"],
    ["a block device", "4", "block device"],
    ["a fifo", "6", "fifo"],
  ])("%s is left out and named", async (_, type, kind) => {
    await send([DIRECTORY, { name: "asked/it", type, mode: 0o666, major: 1, minor: 3 }, { name: "asked/x" }]);
    const result = await guest.run(["cp", "box:/x/asked", target]);
    expect(result).toMatchObject({ status: 0, stderr: `warning: skipped asked/it: a ${kind}\n` });
    expect(await describeTree(target)).toEqual(["asked dir 755", "asked/x file 644"]);
    await send([{ name: "asked", type, mode: 0o666, major: 1, minor: 3 }]);
    await guest.run(["cp", "box:/x/asked", join(target, "alone")]);
    expect((await readdir(target)).sort()).toEqual(["asked"]);
  });
});

describe("a name is shown, and never obeyed by a terminal", () => {
  const name = "\u001b]52;c;eA==\u0007\u001b[2J\r\u00c2\u009b";
  const UNSEEN = /(?!\n)[\p{Cc}\p{Cf}]/u;
  test.each([
    ["of what is left out", [DIRECTORY, { name: `asked/${name}`, type: "6" }]],
    ["of what can't be trusted", [DIRECTORY, { name: `asked/../${name}` }]],
    ["of what was not asked for", [{ name }]],
  ] as [string, Member[]][])("%s", async (_, parts) => {
    await send(parts);
    const { stderr } = await guest.run(["cp", "box:/x/asked", target]);
    expect(stderr).not.toMatch(UNSEEN);
    expect(stderr).toContain("52;c;eA==");
  });

  test("in what the guest's tar, or ssh, says", async () => {
    await guest.actAsGuest(`printf '%b' 'tar: \\033]0;x\\007: Cannot open \\0233\\n' >&2; exit 2`);
    const { stderr, status } = await guest.run(["cp", "box:/x/asked", target]);
    expect(status).toBe(1);
    expect(stderr).toContain("]0;x");
    expect(stderr).not.toMatch(UNSEEN);
  });
});

describe("names that lead elsewhere", () => {
  const upLink: Member = { name: "asked/l", type: "2", link: "../../outside" };
  test.each([
    ["above", [DIRECTORY, { name: "asked/../../outside/mine", data: "evil" }]],
    ["absolute", [DIRECTORY, { name: "/etc/banger-attack", data: "evil" }]],
    ["beside what was asked for", [DIRECTORY, { name: ".bashrc", data: "evil" }]],
    ["through a link of the archive", [DIRECTORY, upLink, { name: "asked/l/mine", data: "evil" }]],
    [
      "over a link of the archive",
      [DIRECTORY, { ...upLink, link: "../../outside/mine" }, { name: "asked/l", data: "evil" }],
    ],
    ["a directory over a link of the archive", [DIRECTORY, upLink, { ...DIRECTORY, name: "asked/l/", mode: 0o777 }]],
    ["a hard link to above", [DIRECTORY, { name: "asked/h", type: "1", link: "asked/../../outside/mine" }]],
    ["a hard link to an absolute name", [DIRECTORY, { name: "asked/h", type: "1", link: "/etc/passwd" }]],
    [
      "a hard link through a link of the archive",
      [DIRECTORY, upLink, { name: "asked/h", type: "1", link: "asked/l/mine" }],
    ],
    [
      "in an extended header",
      [DIRECTORY, makePax({ path: "asked/../../outside/mine" }), { name: "asked/x", data: "evil" }],
    ],
    [
      "in a link of an extended header",
      [DIRECTORY, makePax({ linkpath: "/etc/passwd" }), { name: "asked/h", type: "1" }],
    ],
    [
      "in the name of a sparse file",
      [DIRECTORY, makePax({ "GNU.sparse.name": "../outside/mine" }), { name: "asked/x" }],
    ],
    ["in a long name", [DIRECTORY, { name: "L", type: "L", data: "asked/../../outside/mine\0" }, { name: "asked/x" }]],
    ["a file that is taken for a directory", [{ name: "asked/", mode: 0o777 }]],
    ["contents where there are none", [{ ...DIRECTORY, data: "evil" }]],
    ["a size that an extended header hides", [DIRECTORY, makePax({ size: "x" }), { name: "asked/x", data: "evil" }]],
    ["another volume", [DIRECTORY, { name: "asked/v", type: "V" }]],
  ] as [string, (Member | Buffer)[]][])("%s", async (_, parts) => {
    await send(parts);
    const result = await guest.run(["cp", "box:/x/asked", target]);
    expect(result.status).toBe(1);
    expect(result.stderr).toContain("[FAILED]");
    expect(await readdir(target)).toEqual([]);
    expect(await readdir(outside)).toEqual(["mine"]);
    expect(await readFile(join(outside, "mine"), "utf8")).toBe("mine");
  });

  test("a header hidden in what another one says is its contents is never read as one", async () => {
    const hidden = makeArchive([{ name: "asked", mode: 0o4755, data: "x" }]).toString("latin1");
    await send([DIRECTORY, { name: "asked/x", data: hidden }, { name: "asked/y" }]);
    expect((await guest.run(["cp", "box:/x/asked", target])).status).toBe(0);
    expect(await describeTree(target)).toEqual(["asked dir 755", "asked/x file 644", "asked/y file 644"]);
  });
});

describe("what an earlier copy left", () => {
  test("a link is replaced, not written through", async () => {
    await mkdir(join(target, "asked"));
    await symlink("../../outside/mine", join(target, "asked/f"));
    await send([DIRECTORY, { name: "asked/f", data: "new" }]);
    expect((await guest.run(["cp", "box:/x/asked", target])).status).toBe(0);
    expect(await readFile(join(outside, "mine"), "utf8")).toBe("mine");
    expect(await readFile(join(target, "asked/f"), "utf8")).toBe("new");
  });

  test("a link that replaces a file with two names brings nothing of this host into it", async () => {
    await writeFile(join(target, "one"), "old");
    await link(join(target, "one"), join(target, "two"));
    await send([{ name: "asked", type: "2", link: join(outside, "mine") }]);
    expect((await guest.run(["cp", "box:/x/asked", join(target, "one")])).status).toBe(0);
    expect(await readlink(join(target, "one"))).toBe(join(outside, "mine"));
    expect(await readFile(join(target, "two"), "utf8")).toBe("old");
  });

  test("nothing is put into a directory that a link leads to", async () => {
    await mkdir(join(target, "asked"));
    await symlink("../../outside", join(target, "asked/d"));
    await send([DIRECTORY, { ...DIRECTORY, name: "asked/d/" }, { name: "asked/d/mine", data: "evil" }]);
    expect((await guest.run(["cp", "box:/x/asked", target])).stderr).toContain("is not a directory");
    expect(await readFile(join(outside, "mine"), "utf8")).toBe("mine");
    expect(await readlink(join(target, "asked/d"))).toBe("../../outside");
  });

  test("a stream that breaks off leaves nothing and changes nothing", async () => {
    await writeFile(join(target, "asked"), "old");
    await send([{ name: "asked", data: "x".repeat(5000) }]);
    const whole = await readFile(join(guest.dir, "stream"));
    for (const length of [0, 300, 512, 2000, whole.length - 1024]) {
      await writeFile(join(guest.dir, "stream"), whole.subarray(0, length));
      expect((await guest.run(["cp", "box:/x/asked", target])).status).toBe(1);
      expect(await readFile(join(target, "asked"), "utf8")).toBe("old");
      expect(await readdir(target)).toEqual(["asked"]);
    }
  });
});

test("whatever else a guest packs: then nothing of it is unpacked", async () => {
  const work = join(guest.dir, "work");
  await mkdir(join(work, "sub"), { recursive: true });
  for (const name of [".bashrc", "asked", "sub/escaped"]) await writeFile(join(work, name), "evil");
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
  await writeFile(join(guest.dir, "stream"), stream.stdout);
  await guest.actAsGuest(`exec cat ${join(guest.dir, "stream")}`);
  expect((await guest.run(["cp", "box:/x/asked", target])).stderr).toContain("can't be trusted");
  expect(await readdir(target)).toEqual([]);
  // .bun is Bun's own cache of a program that isn't compiled.
  const left = (await readdir(guest.dir)).filter((name) => name !== ".bun").sort();
  expect(left).toEqual(["banger", "outside", "ssh", "stream", "target", "work"]);
});
