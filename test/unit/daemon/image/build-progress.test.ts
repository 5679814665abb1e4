import { expect, test } from "bun:test";
import { createBuildProgress } from "../../../../src/daemon/image/build-progress.ts";

test("counts packages over both runs of apt", () => {
  const parse = createBuildProgress();
  expect(parse("I: running apt-get update...")?.stage).toBe("resolve");
  expect(parse("Get:4 http://deb.debian.org/debian trixie/main amd64 Packages [9671 kB]")?.stage).toBe("resolve");
  expect(parse("0 upgraded, 2 newly installed, 0 to remove and 0 not upgraded.")).toBeNull();
  expect(parse("Get:1 http://deb.debian.org/debian trixie/main amd64 bash amd64 5.2 [1500 kB]")).toMatchObject({
    stage: "download",
    done: 1,
    total: 2,
  });
  expect(parse("Unpacking bash (5.2) ...")).toMatchObject({ stage: "unpack", done: 1, total: 2 });
  expect(parse("0 upgraded, 10 newly installed, 0 to remove and 0 not upgraded.")).toBeNull();
  expect(parse("Get:1 http://deb.debian.org/debian trixie/main amd64 git amd64 2 [9,671 kB]")).toMatchObject({
    stage: "download",
    done: 2,
    total: 12,
  });
  expect(parse("Setting up git (2) ...")).toMatchObject({ stage: "configure", done: 1, total: 12 });
  expect(parse("I: running --customize-hook in shell: sh -c 'set -eu")?.stage).toBe("filesystem");
  expect(parse("Selecting previously unselected package git.")).toBeNull();
});

test("a count past its total loses the total", () => {
  const parse = createBuildProgress();
  parse("0 upgraded, 1 newly installed, 0 to remove");
  parse("Unpacking a (1) ...");
  expect(parse("Unpacking a (1) over (1) ...")).toEqual({ stage: "unpack", message: "Unpacking packages", done: 2 });
});
