import { describe, expect, test } from "bun:test";
import { formatInstallConfig, type InstallConfig, parseInstallConfig } from "../../../src/shared/install-config.ts";

const whole: InstallConfig = {
  owner: { uid: 1000, gid: 1000, name: "dev" },
  vm_ids: { first: 200_000, count: 1000 },
  firecracker: { version: "1.16.1", directory: "/usr/local/lib/banger/firecracker/1.16.1" },
};

describe("install.toml", () => {
  test("what is written is what is read", () => {
    expect(parseInstallConfig(formatInstallConfig(whole))).toEqual(whole);
    const { firecracker: _, ...bare } = whole;
    expect(parseInstallConfig(formatInstallConfig(bare))).toEqual(bare);
  });

  const text = formatInstallConfig(whole);
  test.each([
    ["root as the owner", text.replace("uid = 1000", "uid = 0")],
    ["the owner inside the VMs' range", text.replace("uid = 1000", "uid = 200500")],
    ["the owner's group inside the VMs' range", text.replace("gid = 1000", "gid = 200999")],
    ["system users in the VMs' range", text.replace("first = 200000", "first = 1")],
    ["a range past the largest id", text.replace("first = 200000", "first = 2147483600")],
    ["an empty range", text.replace("count = 1000", "count = 0")],
    ["a relative directory", text.replace('"/usr', '"usr')],
    ["a directory with dots", text.replace("/banger/firecracker", "/../firecracker")],
    ["a version that is a path", text.replace('version = "1.16.1"', 'version = "../x"')],
    ["an unknown key", `${text}\n[more]\nkey = 1\n`],
    ["a missing table", text.replace("[owner]", "[other]")],
    ["what isn't TOML", "= ="],
  ])("refuses %s", (_, bad) => {
    expect(bad).not.toBe(text);
    expect(() => parseInstallConfig(bad)).toThrow(/install\.toml/);
  });
});
