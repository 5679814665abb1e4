import { describe, expect, test } from "bun:test";
import {
  parseVersion,
  pinnedRelease,
  TEST_ONLY_VERSION,
  whyUnsafe,
} from "../../../../../src/cmd/system/firecracker/release.ts";

describe("Firecracker's versions", () => {
  test.each(["1.14.4", "1.14.9", "1.15.1", "1.16.0", "1.16.1", "1.17.0", "2.0.0"])("%s is safe", (version) => {
    expect(whyUnsafe(version)).toBeNull();
  });
  test.each(["0.25.0", "1.7.0", "1.13.9", "1.14.3", "1.15.0"])("%s is not", (version) => {
    expect(whyUnsafe(version)).toContain(version);
  });

  test("the one for tests is refused by every build but a test build, which accepts no other", () => {
    expect(whyUnsafe(TEST_ONLY_VERSION)).toContain("known security holes");
    expect(whyUnsafe(TEST_ONLY_VERSION, true)).toBeNull();
    for (const version of ["1.12.0", "1.12.2", "1.13.0"]) expect(whyUnsafe(version, true)).toContain(version);
  });

  test("are read from what both programs say", () => {
    expect(parseVersion("Firecracker v1.16.1\n\n2026-01-01 [anonymous-instance] exiting\n")).toBe("1.16.1");
    expect(parseVersion("Jailer v1.17.0-dev\n")).toBe("1.17.0-dev");
    expect(parseVersion("Firecracker v../../etc\n")).toBeNull();
    expect(parseVersion("")).toBeNull();
  });

  test("each kind of machine has one pinned by digest, others are refused", () => {
    for (const arch of ["x64", "arm64"]) {
      const { sha256, url, version } = pinnedRelease(arch);
      expect(sha256).toMatch(/^[0-9a-f]{64}$/);
      expect(url).toContain(`v${version}`);
      expect(whyUnsafe(version)).toBeNull();
    }
    expect(() => pinnedRelease("constructor")).toThrow("no Firecracker for constructor");
  });
});
