/** BANGER_HOST: a daemon that is reached over a real sshd. No guest is booted here. */

import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { chmod, mkdir, symlink, writeFile } from "node:fs/promises";
import { existsSync } from "node:fs";
import { join } from "node:path";
import { BANGER, eventually, type Home, makeHome } from "../support/banger.ts";

const SSHD = "/usr/sbin/sshd";
const canRun = existsSync(SSHD) && process.getuid?.() === 0;

async function keygen(path: string): Promise<string> {
  const child = Bun.spawn(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", path]);
  if ((await child.exited) !== 0) throw new Error("ssh-keygen failed");
  return (await Bun.file(`${path}.pub`).text()).trim();
}

describe.skipIf(!canRun)(`another machine's daemon${canRun ? "" : " (skipped: needs root and openssh-server)"}`, () => {
  let here: Home;
  let there: Home;
  let sshd: Bun.Subprocess;
  let host: string;

  beforeAll(async () => {
    [here, there] = [await makeHome(), await makeHome()];
    for (const home of [here, there]) await mkdir(join(home.dir, "bin"));
    await symlink(BANGER, join(there.dir, "bin/banger"));
    const hostKey = await keygen(join(there.dir, "host_key"));
    await writeFile(join(there.dir, "authorized"), await keygen(join(here.dir, "id")));
    const probe = Bun.listen({ hostname: "127.0.0.1", port: 0, socket: { data: () => undefined } });
    const { port } = probe;
    probe.stop(true);
    const env = { ...there.env, PATH: `${join(there.dir, "bin")}:${there.env["PATH"]}` };
    await writeFile(
      join(there.dir, "sshd_config"),
      [
        `Port ${port}`,
        "ListenAddress 127.0.0.1",
        `HostKey ${join(there.dir, "host_key")}`,
        `AuthorizedKeysFile ${join(there.dir, "authorized")}`,
        `PidFile ${join(there.dir, "sshd.pid")}`,
        "StrictModes no",
        "UsePAM no",
        "PermitRootLogin yes",
        `SetEnv ${Object.entries(env)
          .map(([name, value]) => `${name}="${value}"`)
          .join(" ")}`,
        "",
      ].join("\n"),
    );
    // OpenSSH takes the home directory from the password file, so the user's configuration comes by an ssh of the test's.
    await writeFile(
      join(here.dir, "config"),
      `IdentityFile ${join(here.dir, "id")}\nIdentitiesOnly yes\nUserKnownHostsFile ${join(here.dir, "known")}\nStrictHostKeyChecking yes\n`,
    );
    await writeFile(join(here.dir, "known"), `[127.0.0.1]:${port} ${hostKey}\n`);
    await writeFile(join(here.dir, "bin/ssh"), `#!/bin/sh\nexec /usr/bin/ssh -F ${join(here.dir, "config")} "$@"\n`);
    await chmod(join(here.dir, "bin/ssh"), 0o755);
    await mkdir("/run/sshd", { recursive: true, mode: 0o755 });
    sshd = Bun.spawn([SSHD, "-D", "-e", "-f", join(there.dir, "sshd_config")], { stderr: "ignore", stdout: "ignore" });
    host = `ssh://root@127.0.0.1:${port}`;
    await eventually("sshd listens", 10_000, async () => {
      const socket = await Bun.connect({ hostname: "127.0.0.1", port, socket: { data: () => undefined } }).catch(
        () => null,
      );
      socket?.end();
      return socket !== null;
    });
  }, 60_000);
  afterAll(async () => {
    sshd.kill();
    await here[Symbol.asyncDispose]();
    await there[Symbol.asyncDispose]();
  });

  const run = async (...args: string[]) =>
    await here.run(args, {
      env: { BANGER_HOST: host, PATH: `${join(here.dir, "bin")}:${here.env["PATH"]}` },
      timeoutMs: 30_000,
    });

  test("is started, asked and listed from here", async () => {
    const status = await run("daemon", "status", "--json");
    expect(status.stderr).toBe("");
    const ps = await run("ps", "--json");
    expect({ status: ps.status, stdout: ps.stdout, stderr: ps.stderr }).toEqual({
      status: 0,
      stdout: "[]\n",
      stderr: "",
    });
    expect(await there.daemonPid()).not.toBeNull();
    expect(await here.daemonPid()).toBeNull();
    expect(JSON.parse((await run("daemon", "status", "--json")).stdout)).toMatchObject({ stateDir: there.stateDir });
  });

  test("the far daemon's errors are passed on, and a killed daemon is started again", async () => {
    expect(await run("vm", "show", "nobody")).toMatchObject({ status: 20 });
    process.kill((await there.daemonPid()) ?? 0, "SIGKILL");
    expect(await run("ps", "-q")).toMatchObject({ status: 0, stdout: "" });
  });

  test("commands about this machine are refused", async () => {
    for (const args of [["config"], ["ssh-config", "--install"], ["daemon", "logs"]]) {
      const result = await run(...args);
      expect(result.status).toBe(2);
      expect(result.stderr).toContain("try: unset BANGER_HOST");
    }
    expect(await run("vm", "forward", "-d", "box", "80")).toMatchObject({ status: 20 });
  });

  test("stop ends it", async () => {
    expect((await run("daemon", "stop")).status).toBe(0);
    await eventually("no daemon there", 60_000, async () => (await there.daemonPid()) === null);
  });
});
