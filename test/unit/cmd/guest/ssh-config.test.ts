import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import {
  chmod,
  link,
  lstat,
  mkdir,
  mkdtemp,
  readdir,
  readFile,
  readlink,
  rm,
  stat,
  symlink,
  writeFile,
} from "node:fs/promises";
import { join } from "node:path";
import fc from "fast-check";
import {
  bangerSshConfig,
  installInclude,
  removeInclude,
  withBlock,
  withoutBlock,
} from "../../../../src/cmd/guest/ssh-config.ts";
import { makeDevice } from "../../../support/devices.ts";
import { vmOfHost } from "../../../../src/cmd/guest/vm-host.ts";
import { rootlessPaths } from "../../../../src/shared/places/paths.ts";

let dir: string;
beforeEach(async () => {
  dir = await mkdtemp("/tmp/banger-ssh-config-");
});
afterEach(async () => await rm(dir, { recursive: true }));

const INCLUDED = "/home/me/.local/state/banger/ssh/config";

describe("the marked block", () => {
  test("stands before everything else, once", () => {
    const text = withBlock(withBlock("Host a\n  User b\n", "/old"), INCLUDED);
    expect(text).toBe(`# >>> banger >>>\nInclude "${INCLUDED}"\n# <<< banger <<<\nHost a\n  User b\n`);
  });

  test("goes and leaves every byte of the rest", () => {
    fc.assert(
      fc.property(fc.string(), (text) => {
        fc.pre(!text.includes("banger >>>"));
        expect(withoutBlock(withBlock(text, INCLUDED))).toBe(text);
      }),
    );
  });

  test("without its end is left alone", () => {
    const torn = "# >>> banger >>>\nHost mine\n";
    expect(withoutBlock(torn)).toBe(torn);
  });
});

describe("the user's file, whatever it is, is after --uninstall as it was", () => {
  /** Everything in the directory: links as links, bytes as bytes. */
  const look = async (): Promise<Record<string, string>> => {
    const found: Record<string, string> = {};
    for (const name of await readdir(dir)) {
      const info = await lstat(join(dir, name));
      found[name] = info.isSymbolicLink()
        ? `-> ${await readlink(join(dir, name))}`
        : `${info.nlink} ${(info.mode & 0o7777).toString(8)} ${(await readFile(join(dir, name))).toString("latin1")}`;
    }
    return found;
  };
  const config = (): string => join(dir, "config");

  test.each([
    ["no file", async () => undefined, "config"],
    ["an empty file", async () => await writeFile(config(), ""), "config"],
    [
      "a file whose comment is Latin-1",
      async () => await writeFile(config(), Buffer.from("# caf\xe9 \xff\nHost a\n", "latin1")),
      "config",
    ],
    ["a file without a last line end", async () => await writeFile(config(), "Host a"), "config"],
    ["lines that end with CRLF", async () => await writeFile(config(), "Host a\r\n  User b\r\n"), "config"],
    ["a mode of its own", async () => await writeFile(config(), "Host a\n", { mode: 0o400 }), "config"],
    ["a link to nothing", async () => await symlink("dotfiles", config()), "dotfiles"],
    [
      "a link to an empty file",
      async () => {
        await writeFile(join(dir, "dotfiles"), "");
        await symlink("dotfiles", config());
      },
      "dotfiles",
    ],
    [
      "a link to a link",
      async () => {
        await writeFile(join(dir, "real"), "Host a\n");
        await symlink("real", join(dir, "dotfiles"));
        await symlink(join(dir, "dotfiles"), config());
      },
      "real",
    ],
    [
      "a file with two names",
      async () => {
        await writeFile(config(), "Host a\n");
        await link(config(), join(dir, "other"));
      },
      "other",
    ],
    [
      "an empty file with two names",
      async () => {
        await writeFile(join(dir, "other"), "");
        await link(join(dir, "other"), config());
      },
      "other",
    ],
  ] as [string, () => Promise<void>, string][])("%s", async (_, make, holder) => {
    await make();
    const before = await look();
    expect(await installInclude(config(), INCLUDED)).toBe(true);
    expect(await readFile(join(dir, holder), "latin1")).toStartWith("# >>> banger >>>\n");
    expect(await readFile(config(), "latin1")).toContain(`Include "${INCLUDED}"`);
    const installed = await look();
    expect(await installInclude(config(), INCLUDED)).toBe(false);
    expect(await look()).toEqual(installed);
    expect(await installInclude(config(), "/moved")).toBe(true);
    expect(await removeInclude(config())).toBe(true);
    expect(await look()).toEqual(before);
    expect(await removeInclude(config())).toBe(false);
  });

  test("an editor that ended every line with CRLF gets no second block", async () => {
    await installInclude(config(), INCLUDED);
    const text = await readFile(config(), "utf8");
    await writeFile(config(), `${text}Host a\n`.replaceAll("\n", "\r\n"));
    await installInclude(config(), INCLUDED);
    expect((await readFile(config(), "utf8")).split("Include").length).toBe(2);
    await removeInclude(config());
    expect(await readFile(config(), "utf8")).toBe("Host a\r\n");
  });

  test.each([
    ["a directory", async () => void (await mkdir(config()))],
    ["a device", async () => await makeDevice(config(), "null")],
    [
      "a link to a device",
      async () => {
        await makeDevice(join(dir, "null"), "null");
        await symlink("null", config());
      },
    ],
    ["a fifo", async () => void Bun.spawnSync(["mkfifo", config()])],
    ["a link to itself", async () => await symlink("config", config())],
  ])("%s is refused and stays", async (_, make) => {
    await make();
    for (const run of [async () => await installInclude(config(), INCLUDED), async () => await removeInclude(config())])
      expect(await run().catch((thrown: unknown) => thrown)).toMatchObject({ code: "NOT_A_FILE" });
    expect(await readdir(dir)).toContain("config");
    expect((await stat(config()).catch(() => null))?.isFile() ?? false).toBe(false);
  });
});

describe("the user's file", () => {
  test("that isn't there is made private, and goes again", async () => {
    const path = join(dir, "new/config");
    expect(await installInclude(path, INCLUDED)).toBe(true);
    expect((await stat(path)).mode & 0o777).toBe(0o600);
    expect((await stat(join(dir, "new"))).mode & 0o777).toBe(0o700);
    expect(await installInclude(path, INCLUDED)).toBe(false);
    expect(await removeInclude(path)).toBe(true);
    expect(await readdir(join(dir, "new"))).toEqual([]);
    expect(await removeInclude(path)).toBe(false);
  });

  test("keeps its mode, and stays a link where it was one", async () => {
    const target = join(dir, "dotfiles");
    const path = join(dir, "config");
    await writeFile(target, "Host x\n");
    await chmod(target, 0o640);
    await symlink(target, path);
    await installInclude(path, INCLUDED);
    expect((await lstat(path)).isSymbolicLink()).toBe(true);
    expect((await stat(target)).mode & 0o777).toBe(0o640);
    await removeInclude(path);
    expect(await readFile(target, "utf8")).toBe("Host x\n");
    expect((await readdir(dir)).sort()).toEqual(["config", "dotfiles"]);
  });
});

describe("with OpenSSH", () => {
  /** What ssh would do for a host, with the user's file that includes banger's. */
  const ssh = (config: string, host: string): Map<string, string> => {
    const { stdout, stderr } = Bun.spawnSync(["ssh", "-G", "-F", config, host]);
    if (stdout.length === 0) throw new Error(stderr.toString());
    const lines = stdout.toString().trim().split("\n");
    return new Map(lines.map((line) => [line.split(" ")[0] ?? "", line]));
  };
  const OWN = new Set([
    ...["host", "hostname", "port", "user", "proxycommand", "proxyjump", "hostkeyalgorithms", "controlmaster"],
    ...["controlpath", "forwardagent", "forwardx11", "pubkeyacceptedalgorithms", "canonicalizehostname"],
    ...["remotecommand", "permitlocalcommand", "requesttty", "sessiontype", "stdinnull", "forkafterauthentication"],
    ...["stricthostkeychecking", "userknownhostsfile", "globalknownhostsfile", "knownhostscommand", "identityagent"],
    ...["identitiesonly", "preferredauthentications", "pubkeyauthentication", "verifyhostkeydns", "tunnel"],
    ...["updatehostkeys", "addkeystoagent", "proxyusefdpass", "pkcs11provider", "revokedhostkeys", "checkhostip"],
  ]);
  const HOSTILE = [
    ["Port 2222", "User mallory", "HostName evil.example", "ProxyJump jump.example"],
    ["HostKeyAlgorithms ssh-rsa", "PubkeyAcceptedAlgorithms rsa-sha2-512", "PreferredAuthentications password"],
    ["ControlMaster auto", "ControlPath /tmp/%C", "ProxyUseFdpass yes", "CanonicalizeHostname always"],
    ["ForwardAgent yes", "ForwardX11 yes", "PermitLocalCommand yes", "RemoteCommand id", "Tunnel yes"],
    ["RequestTTY force", "SessionType none", "StdinNull yes", "ForkAfterAuthentication yes", "VerifyHostKeyDNS yes"],
    [
      "StrictHostKeyChecking no",
      "UserKnownHostsFile ~/.ssh/known",
      "KnownHostsCommand /bin/true %H",
      "AddKeysToAgent yes",
    ],
    ["ProxyCommand nc %h %p", "IdentityAgent /tmp/agent", "IdentitiesOnly no", "PKCS11Provider /lib/x.so"],
  ];

  test.each(HOSTILE.map((lines) => [lines.join(", "), lines] as const))(
    "Host * with %s changes nothing",
    async (_, lines) => {
      const [own, user] = [join(dir, "own"), join(dir, "user")];
      await writeFile(own, bangerSshConfig(rootlessPaths({}, "/home/me", 1000)));
      await writeFile(user, `Host *\n  ${lines.join("\n  ")}\n`);
      await installInclude(user, own);
      for (const host of ["box.vm", "BOX.vm", "BOX.VM"]) {
        const [alone, together] = [ssh(own, host), ssh(user, host)];
        for (const name of OWN) expect([name, together.get(name)]).toEqual([name, alone.get(name)]);
        expect(together.get("proxycommand")).toContain("internal ssh-proxy");
      }
      // Other hosts keep what the user chose.
      expect(ssh(user, "other.example").get("proxycommand") ?? "").not.toContain("banger");
    },
  );

  test.each([
    ["KexAlgorithms diffie-hellman-group1-sha1", "kexalgorithms", "curve25519-sha256"],
    ["Ciphers aes256-cbc", "ciphers", "chacha20-poly1305@openssh.com"],
    ["MACs hmac-md5", "macs", "umac-128-etm@openssh.com"],
  ])("nor does %s leave nothing that the guest speaks", async (line, option, first) => {
    const [own, user] = [join(dir, "own"), join(dir, "user")];
    await writeFile(own, bangerSshConfig(rootlessPaths({}, "/home/me", 1000)));
    await writeFile(user, `Host *\n  ${line}\n`);
    await installInclude(user, own);
    expect(ssh(user, "box.vm").get(option)).toStartWith(`${option} ${first}`);
  });

  test("a name has no case, and an alias is what the key is found under", async () => {
    expect(["BOX.vm", "Box.VM", "box.vm", "box"].map(vmOfHost)).toEqual(["box", "box", "box", "box"]);
    expect(bangerSshConfig(rootlessPaths({}, "/home/me", 1000))).toContain("internal known-hosts %n %H");
  });
});

test("banger's own file can't be steered by odd paths", () => {
  const text = bangerSshConfig(rootlessPaths({}, "/home/a b%h'c", 1000));
  expect(text).toContain(`IdentityFile "/home/a b%%h'c/.local/state/banger/ssh/id_ed25519"`);
  expect(() => bangerSshConfig(rootlessPaths({}, '/home/"\nProxyCommand id', 1000))).toThrow("can't contain the path");
});
