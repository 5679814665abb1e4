import { expect, test } from "bun:test";
import { guestFiles } from "../../../../src/daemon/image/guest-files.ts";
import { writeTar } from "../../../../src/daemon/image/write-tar.ts";

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

test("a name that does not fit is refused, not cut", () => {
  expect(() => writeTar([{ kind: "directory", path: "d".repeat(101), mode: 0o755 }])).toThrow(RangeError);
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
