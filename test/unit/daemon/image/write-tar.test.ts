import { expect, test } from "bun:test";
import { guestFiles } from "../../../../src/daemon/image/guest-files.ts";
import { joinTars, writeTar } from "../../../../src/daemon/image/write-tar.ts";

/** What GNU tar makes of an archive. */
async function listTar(archive: Uint8Array): Promise<readonly string[]> {
  const child = Bun.spawn(["tar", "--numeric-owner", "-tvf", "-"], {
    stdin: archive,
    stdout: "pipe",
    stderr: "pipe",
    env: { TZ: "UTC", PATH: process.env["PATH"] ?? "" },
  });
  const [listed, complaints] = await Promise.all([
    new Response(child.stdout).text(),
    new Response(child.stderr).text(),
  ]);
  expect(complaints).toBe("");
  expect(await child.exited).toBe(0);
  return listed
    .trimEnd()
    .split("\n")
    .map((line) => line.replace(/ +/g, " "));
}

test("tar reads modes, owners, sizes and links", async () => {
  const archive = writeTar([
    { kind: "directory", path: "d", mode: 0o755 },
    { kind: "file", path: "d/empty", mode: 0o600, contents: "" },
    { kind: "file", path: "d/block", mode: 0o755, contents: "x".repeat(512) },
    { kind: "link", path: "d/link", target: "/dev/null" },
  ]);
  expect(await listTar(archive)).toEqual([
    "drwxr-xr-x 0/0 0 1970-01-01 00:00 d",
    "-rw------- 0/0 0 1970-01-01 00:00 d/empty",
    "-rwxr-xr-x 0/0 512 1970-01-01 00:00 d/block",
    "lrwxrwxrwx 0/0 0 1970-01-01 00:00 d/link -> /dev/null",
  ]);
});

test("a path of any length and letters is the one that is read; a link's target that does not fit is refused, not cut", async () => {
  const paths = [99, 100, 101, 155, 256, 1000, 4000].map((length) => `${"p".repeat(length - 2)}/f`);
  paths.push(`é${"e".repeat(99)}`, `${"é".repeat(100)} "\\n"`);
  const archive = writeTar(paths.map((path) => ({ kind: "file", path, mode: 0o644, contents: path })));
  const child = Bun.spawn(["tar", "--quoting-style=literal", "-tf", "-"], { stdin: archive, stdout: "pipe" });
  expect((await new Response(child.stdout).text()).trimEnd().split("\n")).toEqual(paths);
  expect(() => writeTar([{ kind: "link", path: "l", target: "d".repeat(101) }])).toThrow(RangeError);
  expect(() => writeTar([{ kind: "directory", path: "a\0b", mode: 0o755 }])).toThrow(RangeError);
});

test("joined archives are one, with the entries of all in order", async () => {
  const one = (path: string): Uint8Array => writeTar([{ kind: "file", path, mode: 0o644, contents: path }]);
  expect((await listTar(joinTars([one("a"), one("b"), writeTar([])]))).map((line) => line.split(" ").at(-1))).toEqual([
    "a",
    "b",
  ]);
});

test("the guest's files: every path once, parents first, nothing masked that is also provided", async () => {
  const files = guestFiles();
  const paths = files.map(({ path }) => path);
  expect(new Set(paths).size).toBe(paths.length);
  for (const [index, path] of paths.entries()) {
    const parent = path.slice(0, Math.max(0, path.lastIndexOf("/")));
    if (parent !== "") expect(paths.slice(0, index)).toContain(parent);
  }
  const masked = files.filter((entry) => entry.kind === "link" && entry.target === "/dev/null").map(({ path }) => path);
  for (const path of masked) expect(paths).not.toContain(`${path}.d`);
  expect(await listTar(writeTar(files))).toHaveLength(files.length);
});
