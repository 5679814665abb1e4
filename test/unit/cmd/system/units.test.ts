import { describe, expect, test } from "bun:test";
import { join } from "node:path";
import { directories } from "../../../../src/cmd/system/install.ts";
import { renderSystemFiles, UNITS } from "../../../../src/cmd/system/units.ts";
import { systemPaths } from "../../../../src/shared/places/paths.ts";

const config = { owner: { uid: 1000, gid: 1001, name: "dev" }, vm_ids: { first: 1_900_000_000, count: 4096 } };
const files = new Map(renderSystemFiles(config, systemPaths()).map(({ path, text }) => [path.split("/").at(-1), text]));
const textOf = (name: string): string => files.get(name) ?? "";
/** Values of a key, one per line it stands on. */
const valuesOf = (name: string, key: string): readonly string[] =>
  textOf(name)
    .split("\n")
    .filter((line) => line.startsWith(`${key}=`))
    .map((line) => line.slice(key.length + 1));

test("docs/privileges.md names everything that an install makes", async () => {
  const page = await Bun.file(join(import.meta.dir, "../../../../docs/privileges.md")).text();
  for (const name of files.keys()) expect(page).toContain(name ?? "");
  for (const { path } of directories(config, systemPaths())) expect(page).toContain(path);
});

test("udev reads no disk of a guest's, whatever the distribution calls its rules of device mapper", () => {
  const name = [...files.keys()].find((file) => file?.endsWith(".rules") === true) ?? "none";
  const rules = textOf(name);
  // A backslash continues a line, and nothing may come between a rule and its end.
  expect(rules.match(/^KERNEL==.*\\\n {2}ENV\{/gm)).toHaveLength(2);
  expect(rules).toContain('ATTR{dm/name}=="fc-rootfs-*"');
  expect([name, "10-dm.rules"].toSorted()).toEqual([name, "10-dm.rules"]);
});

describe("units", () => {
  test("every unit that is started is rendered", () => {
    for (const name of UNITS) expect(textOf(name)).toStartWith("[Unit]\n");
  });

  test.each(["bangerd.service", "bangerd-root.service"])("%s never ends what it did not start", (name) => {
    expect(valuesOf(name, "KillMode")).toEqual(["process"]);
    expect(valuesOf(name, "SendSIGKILL")).toEqual(["no"]);
    expect(textOf(name)).not.toMatch(/^ExecStop(?:Post)?=(?!\+-\/usr\/bin\/resolvectl revert br-fc$)/m);
  });

  test.each(["bangerd.service", "bangerd-root.service"])(
    "%s has a clean environment and no way to new privileges",
    (name) => {
      expect(valuesOf(name, "UMask")).toEqual(["0077"]);
      expect(valuesOf(name, "NoNewPrivileges")).toEqual(["yes"]);
      expect(valuesOf(name, "ProtectSystem")).toEqual(["strict"]);
      expect(valuesOf(name, "UnsetEnvironment")[0]?.split(" ")).toEqual(
        expect.arrayContaining([
          ...["BUN_OPTIONS", "BUN_BE_BUN", "NODE_OPTIONS", "LD_PRELOAD", "LD_AUDIT", "GLIBC_TUNABLES"],
          ...["GCONV_PATH", "LOCPATH", "OPENSSL_CONF", "OPENSSL_MODULES", "SSL_CERT_FILE"],
        ]),
      );
      // The JavaScript engine makes code at run time.
      expect(textOf(name)).not.toContain("MemoryDenyWriteExecute");
    },
  );

  test("the owner daemon is the owner, without one capability", () => {
    expect(valuesOf("bangerd.service", "User")).toEqual(["1000"]);
    expect(valuesOf("bangerd.service", "Group")).toEqual(["1001"]);
    expect(valuesOf("bangerd.service", "CapabilityBoundingSet")).toEqual([""]);
    expect(valuesOf("bangerd.service", "RestrictAddressFamilies")).toEqual(["AF_UNIX AF_INET AF_INET6"]);
    expect(valuesOf("bangerd.service", "ReadWritePaths")).toEqual([
      "/var/lib/banger/owner /var/cache/banger /run/banger/owner",
      "/var/lib/banger/jail",
    ]);
  });

  test("the helper has the capabilities of its verbs, and no disk of the host", () => {
    expect(valuesOf("bangerd-root.service", "CapabilityBoundingSet")[0]?.split(" ")).not.toContain("CAP_SYS_MODULE");
    expect(valuesOf("bangerd-root.service", "User")).toEqual([]);
    expect(valuesOf("bangerd-root.service", "DevicePolicy")).toEqual(["closed"]);
    expect(valuesOf("bangerd-root.service", "DeviceAllow").filter((rule) => /sd|vd|nvme|\*/.test(rule))).toEqual([]);
  });

  test.each([
    ["bangerd.socket", "/run/banger/bangerd.sock"],
    ["bangerd-root.socket", "/run/banger-root/bangerd-root.sock"],
  ])("%s is the owner's alone", (name, path) => {
    expect(valuesOf(name, "ListenStream")).toEqual([path]);
    expect(valuesOf(name, "SocketMode")).toEqual(["0600"]);
    expect(valuesOf(name, "SocketUser")).toEqual(["1000"]);
  });

  test("the sockets lie in directories that the owner can't change, made before what is in them", () => {
    expect(textOf("banger.conf")).toEndWith(
      "d /run/banger 0711 0 0 -\nd /run/banger/owner 0700 1000 1001 -\nd /run/banger-root 0711 0 0 -\n",
    );
  });

  test("names are asked for no more when the daemon ends, at the bridge of the settings", () => {
    const [unit] = renderSystemFiles(config, systemPaths(), "br-fc-two").filter(({ path }) =>
      path.endsWith("/bangerd.service"),
    );
    expect(unit?.text).toContain("\nExecStopPost=+-/usr/bin/resolvectl revert br-fc-two\n");
    expect(textOf("bangerd.service")).toContain("\nFileDescriptorStoreMax=2\n");
  });

  test("the jails' directory is a mount on itself, there before the helper, on which no file changes a uid, is run or is a device", () => {
    const name = "var-lib-banger-jail.mount";
    expect(UNITS[0]).toBe(name);
    for (const key of ["What", "Where"]) expect(valuesOf(name, key)).toEqual(["/var/lib/banger/jail"]);
    expect(valuesOf(name, "Options")).toEqual(["bind,nosuid,nodev,noexec"]);
    expect(valuesOf(name, "Before")).toEqual(["bangerd-root.service"]);
    expect(valuesOf(name, "RequiredBy")).toEqual(["bangerd-root.service"]);
  });
});
