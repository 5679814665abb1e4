/** The descriptors that banger got from its caller: never changed, never handed on, and their errors seen. */

import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { eventually } from "../../support/banger.ts";
import { isRunning, makeWorld, readLines, shellFunction, type World } from "./support.ts";

let world: World;
beforeAll(async () => {
  world = await makeWorld();
}, 60_000);
afterAll(async () => await world[Symbol.asyncDispose]());

/** fcntl(2): O_NONBLOCK, in the octal flags of proc_pid_fdinfo(5). */
const NONBLOCK = 0o4000;
const isNonBlocking = (pid: number, fd: number): boolean => {
  const flags = /^flags:\s*(\d+)$/m.exec(readFileSync(`/proc/${pid}/fdinfo/${fd}`, "utf8"))?.[1];
  return (Number.parseInt(flags ?? "", 8) & NONBLOCK) !== 0;
};

/** A bash line that goes on while the test reads and writes. */
const start = (line: string): Bun.Subprocess<"pipe", "pipe", "pipe"> =>
  Bun.spawn(["bash", "-c", `${shellFunction(world.daemon)}; ${line}`], {
    cwd: world.daemon.dir,
    env: world.daemon.env,
    stdio: ["pipe", "pipe", "pipe"],
  });

describe("descriptors of others", () => {
  const COMMAND = "sh -c 'read -r x; echo in $x; echo err >&2; read -r x'";

  test.each([
    ["sockets", `banger exec box -- ${COMMAND}`],
    ["pipes", `cat | { banger exec box -- ${COMMAND} 2>&1 >&3 | cat >&2; } 3>&1 | cat`],
  ])("%s stay blocking while a command runs", async (_, line) => {
    const child = start(line);
    const [stdout, stderr] = [readLines(child.stdout), readLines(child.stderr)];
    child.stdin.write("first\n");
    await child.stdin.flush();
    expect(await stdout()).toBe("in first");
    expect(await stderr()).toBe("err");
    const cli = world.daemon.cli.at(-1) ?? "";
    const found = Bun.spawnSync(["pgrep", "-f", `${cli} exec box`])
      .stdout.toString()
      .trim()
      .split("\n")
      .map(Number);
    const pids = found.filter((pid) => readFileSync(`/proc/${pid}/environ`, "utf8").includes(world.daemon.dir));
    expect(pids).toHaveLength(1);
    expect([0, 1, 2].map((fd) => isNonBlocking(pids[0] ?? 0, fd))).toEqual([false, false, false]);
    child.stdin.end();
    await child.exited;
  });

  test("another writer to the same pipe is never turned away", async () => {
    const line =
      "{ banger exec box -- head -c 3000000 /dev/zero & head -c 3000000 /dev/zero; echo $? >&2; wait; } | cat";
    const child = start(line);
    expect((await new Response(child.stdout).bytes()).length).toBe(6_000_000);
    expect(await new Response(child.stderr).text()).toBe("0\n");
  });

  test("killed with -9, banger leaves nothing that holds them, and the guest ends the command", async () => {
    const child = world.daemon.spawn(["exec", "box", "--", "sh", "-c", "echo $$; sleep 300"], "pipe");
    const line = readLines(child.stdout);
    const pid = await line();
    child.kill("SIGKILL");
    // The end of the pipe: nobody else has it.
    expect(await line()).toBeNull();
    await eventually("the command is gone", 20_000, () => !isRunning(pid ?? ""));
  }, 30_000);

  test("a slow reader stops the command, and gets everything", async () => {
    const command = "sh -c 'echo $$ >&2; exec head -c 5000000 /dev/zero'";
    const child = start(`mkfifo go; banger exec box -- ${command} | { read -r x <go; wc -c; }; rm go`);
    const pid = (await readLines(child.stderr)()) ?? "";
    await eventually("the command waits", 10_000, () => /pipe_write/.test(readFileSync(`/proc/${pid}/wchan`, "utf8")));
    await world.shell("echo >go");
    expect((await new Response(child.stdout).text()).trim()).toBe("5000000");
  });
});

describe("an output that can't be written", () => {
  const FULL = "error: the command's output could not be written: no space is left on the device [OUTPUT_FAILED]\n";

  test("on a full disk, the first byte", async () => {
    expect(await world.shell("banger exec box -- echo hi >/dev/full")).toMatchObject({ status: 31, stderr: FULL });
    expect(await world.shell("banger exec box -- sh -c 'echo hi >&2' 2>/dev/full")).toMatchObject({ status: 31 });
    expect(await world.shell("banger exec --json box -- echo hi >/dev/full")).toMatchObject({ status: 31 });
  });

  test("on a disk that becomes full, and the guest ends the command", async () => {
    const line =
      "mkdir small; mount -t tmpfs -o size=256k none small; banger exec box -- sh -c 'echo $$ >&2; yes' > small/file";
    const { status, stderr } = await world.shell(line);
    expect({ status, stderr: stderr.replace(/^\d+\n/, "") }).toEqual({ status: 31, stderr: FULL });
    await eventually("the command is gone", 20_000, () => !isRunning(stderr.split("\n")[0] ?? ""));
    await world.shell("umount small");
  }, 30_000);

  test("nobody reads it: the status of SIGPIPE, quietly, and the guest ends the command", async () => {
    const line = "banger exec box -- sh -c 'echo $$ >&2; yes' | head -1; echo ${PIPESTATUS[*]}";
    const { stdout, stderr } = await world.shell(line);
    expect(stdout).toBe("y\n141 0\n");
    expect(stderr).toMatch(/^\d+\n$/);
    await eventually("the command is gone", 20_000, () => !isRunning(stderr.trim()));
  }, 30_000);
});

describe("standard input", () => {
  test("a file is read at its shared offset", async () => {
    const line = "seq 3 > numbers; { read -r x; banger exec box -- sh -c 'read -r y; echo $y; cat'; } < numbers";
    expect(await world.shell(line)).toMatchObject({ status: 0, stdout: "2\n3\n" });
  });

  test.each([
    ["none", "<&-", ""],
    ["a directory", "</", ""],
    ["only for writing", "0>written", ""],
    ["/dev/null", "</dev/null", ""],
    ["a FIFO", "<fifo", "through\n"],
  ])("%s", async (_, redirection, expected) => {
    const prepare = redirection === "<fifo" ? "mkfifo fifo; echo through >fifo & " : "";
    expect(await world.shell(`${prepare}banger exec box -- cat ${redirection}`)).toMatchObject({
      ...{ status: 0, stdout: expected, stderr: "" },
    });
  });

  const LOOP = (command: string): string =>
    `printf '1\\n2\\n3\\n' | while read -r line; do echo "$line"; ${command}; done`;

  test("-n leaves it to a loop; without, it is the command's", async () => {
    expect(await world.shell(LOOP("banger exec -n box -- cat"))).toMatchObject({ stdout: "1\n2\n3\n", stderr: "" });
    expect(await world.shell(LOOP("banger exec box -- cat >/dev/null"))).toMatchObject({ stdout: "1\n" });
  });
});
