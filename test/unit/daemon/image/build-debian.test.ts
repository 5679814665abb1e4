import { expect, test } from "bun:test";
import { buildFailure, mmdebstrapArgv } from "../../../../src/daemon/image/build-debian.ts";
import { hasSubordinateIds } from "../../../../src/daemon/image/build-mode.ts";
import { DEBIAN_TRIXIE as recipe } from "../../../../src/daemon/image/catalog.ts";

test("every source is verified against Debian's keyring, and nothing weakens that", () => {
  const argv = mmdebstrapArgv(recipe, "unshare");
  const sources = argv.filter((word) => word.startsWith("deb "));
  expect(sources).toHaveLength(3);
  for (const source of sources) expect(source).toContain("[signed-by=/usr/share/keyrings/debian-archive-keyring.gpg]");
  expect(argv.join(" ")).not.toMatch(/unauthenticated|trusted|insecure/i);
  expect(argv).toContain("--mode=unshare");
});

test("nothing runs apt after the last step has removed its settings", async () => {
  expect(mmdebstrapArgv(recipe, "root")).toContain("--skip=cleanup");
  const step = await Bun.file(new URL("../../../../src/daemon/image/guest/finish-root.sh", import.meta.url)).text();
  expect(step).toContain("! -name 'mmdebstrap.apt.conf.*'");
});

test("failures get the code that says what to do", () => {
  const code = (stderr: string): string => buildFailure(stderr).code;
  expect(code("Err:1 http://deb.debian.org trixie InRelease\n  Temporary failure resolving 'deb.debian.org'")).toBe(
    "ARCHIVE_FAILED",
  );
  expect(code("W: GPG error: http://deb.debian.org trixie InRelease: NO_PUBKEY 123")).toBe("ARCHIVE_FAILED");
  expect(code("E: The repository 'x' is not signed.")).toBe("ARCHIVE_FAILED");
  expect(code("dpkg: error: cannot write: No space left on device")).toBe("NO_SPACE");
  expect(code("E: something else")).toBe("IMAGE_BUILD_FAILED");
  expect(buildFailure(["chatter", "E: the reason", "I: removing tempdir"].join("\n")).message).toContain("the reason");
});

test("when the last step fails, its program's words are told and its text is not", async () => {
  const step = await Bun.file(new URL("../../../../src/daemon/image/guest/finish-root.sh", import.meta.url)).text();
  const { message } = buildFailure(
    `chatter\nmount: /mnt: permission denied.\nE: setup failed: E: command failed: ${step}\nE: mmdebstrap failed to run\n`,
  );
  expect(message).toContain("mount: /mnt: permission denied.");
  expect(message).not.toContain("umask 077");
});

test("a range of subordinate ids must be the user's and large enough", () => {
  expect(hasSubordinateIds("ann:100000:65536\n", "ann", 1000)).toBe(true);
  expect(hasSubordinateIds("1000:100000:65536\n", "ann", 1000)).toBe(true);
  expect(hasSubordinateIds("ann:100000:1000\nbob:1:65536\n", "ann", 1000)).toBe(false);
  expect(hasSubordinateIds("", "ann", 1000)).toBe(false);
});
