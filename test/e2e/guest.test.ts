/** One real guest and everything a person does with it. */

import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { randomBytes } from "node:crypto";
import { chmod, mkdir, readdir, readFile, stat, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { BANGER, eventually, type Home, makeHomeWithImage } from "../support/banger.ts";

interface Vm {
  readonly id: string;
  readonly name: string;
  readonly state: string;
  readonly pid: number | null;
  readonly bootId: string | null;
  readonly spec: { readonly vcpu: number; readonly memoryMiB: number; readonly diskBytes: number };
}

let home: Home;
beforeAll(async () => {
  home = await makeHomeWithImage();
  await home.ok(["vm", "run", "-d", "--name", "box"], { timeoutMs: 300_000 });
}, 900_000);
afterAll(async () => {
  await home[Symbol.asyncDispose]();
});

function freePort(): number {
  const server = Bun.serve({ port: 0, hostname: "127.0.0.1", fetch: () => new Response() });
  const { port } = server;
  void server.stop(true);
  return port ?? 18123;
}

const show = (name: string): Promise<Vm> => home.json<Vm>(["vm", "show", name]);
const exec = (...argv: string[]) => home.run(["vm", "exec", "box", "--", ...argv]);

describe("exec", () => {
  test.each([
    [["true"], 0],
    [["sh", "-c", "exit 42"], 42],
    [["sh", "-c", "exit 255"], 255],
    [["no-such-command"], 127],
    [["/etc/passwd"], 126],
    [["sh", "-c", "kill -TERM $$"], 128 + 15],
  ])("%p ends with %d", async (argv, status) => {
    expect((await exec(...argv)).status).toBe(status);
  });

  test("100 MB of random bytes go in and come back unchanged", async () => {
    const file = join(home.dir, "random");
    await writeFile(file, randomBytes(100 * 1000 * 1000));
    const child = Bun.spawn(["sh", "-c", '"$0" vm exec box -- cat < "$1" | cmp - "$1"', BANGER, file], {
      env: home.env,
      stdout: "pipe",
      stderr: "pipe",
    });
    const output = (await new Response(child.stdout).text()) + (await new Response(child.stderr).text());
    expect({ status: await child.exited, output }).toEqual({ status: 0, output: "" });
  }, 300_000);

  test("a short stdin is counted and the command ends", async () => {
    const result = await home.run(["vm", "exec", "box", "--", "wc", "-c"], { stdin: "x" });
    expect({ status: result.status, stdout: result.stdout.trim() }).toEqual({ status: 0, stdout: "1" });
  });

  test("a stdin that never ends holds nothing up", async () => {
    const result = await home.run(["vm", "exec", "box", "--", "echo", "done"], {
      stdin: "never-closed",
      timeoutMs: 30_000,
    });
    expect(result).toMatchObject({ status: 0, stdout: "done\n" });
  });

  test("no stdin at all", async () => {
    expect(await home.run(["vm", "exec", "box", "--", "wc", "-c"], { stdin: "closed" })).toMatchObject({
      status: 0,
      stdout: "0\n",
    });
  });

  test("stdout and stderr stay apart", async () => {
    expect(await exec("sh", "-c", "echo out; echo err >&2")).toMatchObject({ stdout: "out\n", stderr: "err\n" });
  });

  test("arguments reach the command as they are", async () => {
    const hostile = [
      "a b",
      "$(touch /tmp/pwned)",
      "`id`",
      "'",
      '"',
      "\\",
      "*",
      "--help",
      "",
      "ünï\n newline",
      ";reboot",
    ];
    const result = await exec("printf", "%s\\0", ...hostile);
    expect(result.stdout.split("\0").slice(0, -1)).toEqual(hostile);
  });

  test("-e and -w", async () => {
    const result = await home.run([
      "vm",
      "exec",
      "-e",
      "GREETING=hello 'world'",
      "-w",
      "/usr",
      "box",
      "--",
      "sh",
      "-c",
      'echo "$GREETING"; pwd',
    ]);
    expect(result).toMatchObject({ status: 0, stdout: "hello 'world'\n/usr\n" });
  });

  test("runs in /root, which is HOME", async () => {
    expect(await exec("sh", "-c", "pwd; echo $HOME")).toMatchObject({ stdout: "/root\n/root\n" });
  });

  test("--timeout ends the guest process too", async () => {
    const result = await home.run(["vm", "exec", "--timeout", "2s", "box", "--", "sleep", "4711"], {
      timeoutMs: 60_000,
    });
    expect(result.status).toBe(124);
    expect(result.stderr).toContain("EXEC_TIMEOUT");
    expect((await exec("pgrep", "-f", "sleep 471[1]")).status).toBe(1);
  });

  test("ctrl-c reaches the guest process, whose own status comes back", async () => {
    const child = home.spawn([
      "vm",
      "exec",
      "box",
      "--",
      "sh",
      "-c",
      "trap 'echo caught; exit 7' INT; echo ready; while :; do sleep 0.2; done",
    ]);
    const reader = child.stdout.getReader();
    const text = async (): Promise<string> => new TextDecoder().decode((await reader.read()).value);
    expect(await text()).toBe("ready\n");
    child.kill("SIGINT");
    expect(await text()).toBe("caught\n");
    expect(await child.exited).toBe(7);
  }, 60_000);

  test("an exec without a terminal gets none, with -t it gets one", async () => {
    expect((await exec("test", "-t", "0")).status).toBe(1);
    const script = Bun.spawn(["script", "-qec", `${BANGER} vm exec -t box -- test -t 0`, "/dev/null"], {
      env: home.env,
      stdin: "ignore",
      stdout: "ignore",
      stderr: "ignore",
    });
    expect(await script.exited).toBe(0);
  });

  test("dotfiles of the guest have no part in it, but with -l", async () => {
    await exec("sh", "-c", "for f in .profile .bashrc; do echo 'echo dotfile; exit 9' > ~/$f; done");
    try {
      expect(await exec("echo", "clean")).toMatchObject({ status: 0, stdout: "clean\n" });
      expect(await home.run(["vm", "exec", "-l", "box", "--", "true"])).toMatchObject({
        ...{ status: 9, stdout: "dotfile\n" },
      });
    } finally {
      await exec("sh", "-c", "rm ~/.profile ~/.bashrc");
    }
  });

  test("as another user, in that user's home", async () => {
    await exec("useradd", "-m", "sam");
    const result = await home.run(["vm", "exec", "-u", "sam", "box", "--", "sh", "-c", "id -un; pwd; echo $HOME"]);
    expect(result).toMatchObject({ status: 0, stdout: "sam\n/home/sam\n/home/sam\n" });
  });

  test("an argument as long as Linux takes", async () => {
    const result = await exec("sh", "-c", 'printf %s "$1" | wc -c', "sh", "a".repeat(131_071));
    expect(result).toMatchObject({ status: 0, stdout: "131071\n" });
  });

  test("--json tells status, times and output", async () => {
    const result = await home.run(["vm", "exec", "--json", "box", "--", "sh", "-c", "echo out; kill -9 $$"]);
    expect(JSON.parse(result.stdout)).toMatchObject({
      ...{ vm: "box", status: 137, signal: "SIGKILL", timedOut: false },
      stdout: { encoding: "utf-8", data: "out\n", truncated: false },
    });
    expect(result.status).toBe(137);
  });

  test("a background process that holds the output doesn't keep it, and lives on", async () => {
    const result = await exec("sh", "-c", "sleep 4712 & echo started");
    expect(result).toMatchObject({ status: 0, stdout: "started\n" });
    expect((await exec("pkill", "-f", "sleep 471[2]")).status).toBe(0);
  });

  test("killed with -9, banger leaves nothing in the guest", async () => {
    const child = home.spawn(["vm", "exec", "box", "--", "sh", "-c", "echo ready; sleep 4713"]);
    await child.stdout.getReader().read();
    child.kill("SIGKILL");
    await eventually("the guest's process is gone", 30_000, async () => {
      return (await exec("pgrep", "-f", "sleep 471[3]")).status === 1;
    });
  }, 60_000);

  test("a VM that isn't there is 125 with its code", async () => {
    const result = await home.run(["vm", "exec", "nobody", "--", "true"]);
    expect(result.status).toBe(125);
    expect(result.stderr).toContain("[VM_NOT_FOUND]");
  });
});

test("ssh runs a command with its status", async () => {
  expect(await home.run(["vm", "ssh", "box", "--", "sh", "-c", "echo hi; exit 3"])).toMatchObject({
    status: 3,
    stdout: "hi\n",
  });
});

test("ssh NAME.vm works with the written config, and gives the user's own file back", async () => {
  const config = join(home.dir, ".ssh/config");
  await mkdir(join(home.dir, ".ssh"), { mode: 0o700 });
  await writeFile(config, "Host other\n  User me\n", { mode: 0o600 });
  await home.ok(["ssh-config", "--install"]);
  await home.ok(["ssh-config", "--install"]);
  const installed = await readFile(config, "utf8");
  expect(installed.match(/Include/g)).toHaveLength(1);
  // OpenSSH takes the home directory from the password file, not from HOME, hence -F.
  const child = Bun.spawn(["ssh", "-F", config, "-o", "BatchMode=yes", "box.vm", "hostname"], {
    env: home.env,
    stdin: "ignore",
    stdout: "pipe",
    stderr: "pipe",
  });
  const [stdout, stderr] = await Promise.all([new Response(child.stdout).text(), new Response(child.stderr).text()]);
  expect({ status: await child.exited, stdout, stderr }).toEqual({ status: 0, stdout: "box\n", stderr: "" });
  await home.ok(["ssh-config", "--uninstall"]);
  expect(await readFile(config, "utf8")).toBe("Host other\n  User me\n");
}, 60_000);

describe("cp", () => {
  test("a tree goes in and comes back with modes, odd names and links", async () => {
    const tree = join(home.dir, "tree");
    await mkdir(join(tree, "sub dir"), { recursive: true });
    await writeFile(join(tree, "sub dir/-dash\nline"), randomBytes(5000));
    await writeFile(join(tree, "tool"), "#!/bin/sh\n");
    await chmod(join(tree, "tool"), 0o755);
    await home.ok(["cp", tree, "box:/root/tree"]);
    await home.ok(["cp", "box:/root/tree", join(home.dir, "back")]);
    expect(await readFile(join(home.dir, "back/sub dir/-dash\nline"))).toEqual(
      await readFile(join(tree, "sub dir/-dash\nline")),
    );
    expect((await stat(join(home.dir, "back/tool"))).mode & 0o777).toBe(0o755);
  });

  test("a file into an existing directory keeps its name; a missing one is an error", async () => {
    await writeFile(join(home.dir, "note"), "hello");
    await home.ok(["cp", join(home.dir, "note"), "box:/tmp"]);
    expect(await home.ok(["exec", "box", "--", "cat", "/tmp/note"])).toBe("hello");
    expect((await home.run(["cp", "box:/no/such/file", home.dir])).status).not.toBe(0);
    expect((await home.run(["cp", join(home.dir, "no-such"), "box:/tmp"])).status).not.toBe(0);
  });
});

describe("ports and forward", () => {
  test("a guest listener is listed, forwarded, reached and taken away", async () => {
    const listener = home.spawn([
      ...["exec", "box", "--", "perl", "-MIO::Socket::INET", "-e"],
      'my $s=IO::Socket::INET->new(LocalAddr=>"127.0.0.1",LocalPort=>8123,Listen=>5,ReuseAddr=>1) or die; while(my $c=$s->accept){print $c "HTTP/1.0 200 OK\\r\\nContent-Length: 5\\r\\n\\r\\nhello";close $c}',
    ]);
    const ports = () => home.json<{ port: number; forward: string | null }[]>(["vm", "ports", "box"]);
    await eventually("port 8123 listed", 30_000, async () => (await ports()).some(({ port }) => port === 8123));
    const hostPort = freePort();
    await home.ok(["vm", "forward", "-d", "box", `${hostPort}:8123`]);
    expect(await (await fetch(`http://127.0.0.1:${hostPort}/`)).text()).toBe("hello");
    expect((await ports()).find(({ port }) => port === 8123)?.forward).toBe(`127.0.0.1:${hostPort}`);
    listener.kill("SIGINT");
    await listener.exited;
  }, 120_000);
});

test("show, stats, logs", async () => {
  const vm = await show("box");
  expect(vm).toMatchObject({ name: "box", state: "running" });
  expect(await show(vm.id.slice(0, 6))).toMatchObject({ id: vm.id });
  const [stats] = await home.json<{ memoryBytes: number; diskBytes: number; rxBytes: number | null }[]>([
    "vm",
    "stats",
    "box",
  ]);
  expect(stats?.memoryBytes).toBeGreaterThan(50 * 1024 * 1024);
  expect(stats?.diskBytes).toBeGreaterThan(0);
  expect(stats?.rxBytes).toBeGreaterThan(0);
  expect(await home.ok(["logs", "box"])).not.toBe("");
});

test("without --nat the guest reaches nothing, not even the host's loopback services", async () => {
  const server = Bun.serve({ port: 0, hostname: "127.0.0.1", fetch: () => new Response("host") });
  const result = await exec("curl", "-sS", "-m", "5", `http://10.0.2.2:${server.port}/`);
  expect(result.status).not.toBe(0);
  await server.stop(true);
});

test("nothing private is readable by others", async () => {
  const tops = [home.stateDir, home.runtimeDir];
  const found = Bun.spawnSync(["find", ...tops, "!", "-type", "l", "-printf", "%m %p\n"])
    .stdout.toString()
    .trim();
  const lines = found.split("\n");
  for (const top of tops) expect(lines).toContain(`700 ${top}`);
  expect(lines.length).toBeGreaterThan(10);
  expect(lines.filter((line) => !/^[0-7]00 /.test(line))).toEqual([]);
});

describe("the daemon goes away", () => {
  test("killed with -9, the guest keeps its boot id and the next command works", async () => {
    const before = await show("box");
    process.kill((await home.daemonPid()) ?? 0, "SIGKILL");
    const bootId = (await home.ok(["exec", "box", "--", "cat", "/proc/sys/kernel/random/boot_id"])).trim();
    const after = await show("box");
    expect(after).toMatchObject({ pid: before.pid, bootId: before.bootId, state: "running" });
    expect(bootId).toBe(before.bootId ?? "");
  });

  test("stopped cleanly, an exec under way goes on to its end", async () => {
    const child = home.spawn(["exec", "box", "--", "sh", "-c", "echo begun; sleep 3; echo ended; exit 5"]);
    const reader = child.stdout.getReader();
    expect(new TextDecoder().decode((await reader.read()).value)).toBe("begun\n");
    await home.ok(["daemon", "stop"]);
    expect(new TextDecoder().decode((await reader.read()).value)).toBe("ended\n");
    expect(await child.exited).toBe(5);
    expect((await show("box")).state).toBe("running");
  }, 60_000);

  test("two first commands at once start one daemon", async () => {
    await home.ok(["daemon", "stop"]);
    await Promise.all(Array.from({ length: 6 }, () => home.ok(["ps"])));
    const daemons = (await home.processes()).filter(({ commandLine }) => commandLine.includes("daemon run"));
    expect(daemons).toHaveLength(1);
  });
});

test("stop keeps what the guest wrote a second before", async () => {
  await home.ok(["exec", "box", "--", "sh", "-c", "echo precious > /root/kept; echo system > /var/kept"]);
  await home.ok(["vm", "stop", "box"], { timeoutMs: 120_000 });
  expect(await show("box")).toMatchObject({ state: "stopped", pid: null });
  expect((await exec("true")).status).toBe(125);
  await home.ok(["vm", "set", "box", "--memory", "768M", "--disk-size", "9G"]);
  await home.ok(["vm", "start", "box"], { timeoutMs: 300_000 });
  expect(await home.ok(["exec", "box", "--", "cat", "/root/kept", "/var/kept"])).toBe("precious\nsystem\n");
  const gigabytes =
    Number(await home.ok(["exec", "box", "--", "sh", "-c", "df -B1 --output=size /root | tail -1"])) / 1024 ** 3;
  expect(gigabytes).toBeGreaterThan(8.2);
}, 400_000);

test("a guest that powers itself off is shown as stopped", async () => {
  await exec("systemctl", "poweroff", "--no-block");
  await eventually("state stopped", 60_000, async () => (await show("box")).state === "stopped");
  expect((await home.processes()).filter(({ commandLine }) => commandLine.includes("qemu"))).toEqual([]);
}, 90_000);

test("delete leaves no trace", async () => {
  await home.ok(["vm", "delete", "box"]);
  expect(await readdir(join(home.stateDir, "vms"))).toEqual([]);
  expect(await home.json<unknown[]>(["gc", "--dry-run"])).toEqual([]);
});
