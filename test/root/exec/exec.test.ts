/** What exec carries to a guest and back: arguments, environment, users, statuses, signals, time limits, results for programs. */

import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { randomBytes } from "node:crypto";
import * as v from "valibot";
import { ExecResult } from "../../../src/shared/contract/exec-result.ts";
import { eventually } from "../../support/banger.ts";
import { isRunning, makeWorld, readLines, type World } from "./support.ts";

let world: World;
beforeAll(async () => {
  world = await makeWorld();
}, 60_000);
afterAll(async () => await world[Symbol.asyncDispose]());

const run = async (...words: string[]) => await world.daemon.run(["exec", ...words]);
const exec = async (...words: string[]) => await run("box", "--", ...words);

describe("status and message", () => {
  test.each([
    [["true"], 0, ""],
    [["sh", "-c", "exit 42"], 42, ""],
    [["sh", "-c", "exit 255"], 255, ""],
    [["sh", "-c", "kill -TERM $$"], 143, ""],
    [["sh", "-c", "kill -KILL $$"], 137, ""],
    [["no-such-command"], 127, "no-such-command: command not found in box\n"],
    [["/etc/passwd"], 126, "/etc/passwd can't be executed in box: /etc/passwd: Permission denied\n"],
  ])("%p ends with %d", async (words, status, stderr) => {
    expect(await exec(...words)).toEqual({ status, stdout: "", stderr });
  });

  test.each([
    [["-w", "/no/such"], "/no/such in box can't be entered: /no/such: No such file or directory"],
    [["-u", "nobody-here"], "box has no user nobody-here"],
  ])("%p is 125 with the reason", async (words, message) => {
    expect(await run(...words, "box", "--", "true")).toMatchObject({
      status: 125,
      stderr: `error: ${message} [EXEC_FAILED]\n`,
    });
  });
});

describe("what reaches the command", () => {
  test("arguments, as they are", async () => {
    const hostile = ["a b", "$(id)", "`id`", "'", '"', "\\", "*", "", "-h", "--", "ü\n;"];
    expect((await exec("printf", "%s|", ...hostile)).stdout).toBe(hostile.map((word) => `${word}|`).join(""));
  });

  test("arguments that aren't text", async () => {
    const { stdout } = await world.shell(
      "banger exec box -- printf '%s.' $'\\xff\\xfe' $'\\xef\\xbf\\xbd' ü | od -An -c",
    );
    expect(stdout.replace(/\s+/g, " ").trim()).toBe("377 376 . 357 277 275 . 303 274 .");
  });

  test("but banger's own words are text", async () => {
    const { status, stderr } = await world.shell("banger exec -w $'/\\xff' box -- true");
    expect({ status, stderr }).toMatchObject({ status: 2, stderr: expect.stringContaining("argument 3 is not UTF-8") });
  });

  test("an argument as long as Linux takes, and many more", async () => {
    const longest = "a".repeat(131_071);
    expect((await exec("sh", "-c", 'printf %s "$1" | wc -c', "sh", longest)).stdout.trim()).toBe("131071");
    const many = Array.from({ length: 20_000 }, () => "0123456789".repeat(8));
    expect((await exec("sh", "-c", "echo $#", "sh", ...many)).stdout).toBe("20000\n");
  });

  test("variables, directory and user", async () => {
    const words = ["-e", "A=x 'y' $z", "-e", "B=", "-w", "/usr", "-u", "nobody", "box", "--"];
    const { stdout } = await run(...words, "sh", "-c", 'echo "$A|${B-none}|$(pwd)|$(id -un)"');
    expect(stdout).toBe("x 'y' $z||/usr|nobody\n");
  });

  test("no dotfile, whatever it says", async () => {
    const home = `${world.daemon.dir}/home`;
    await world.shell(
      `mkdir ${home}; for f in .bashrc .profile .bash_profile; do echo 'echo dotfile; exit 9' > ${home}/$f; done`,
    );
    const words = ["-e", `HOME=${home}`, "-e", `BASH_ENV=${home}/.bashrc`, "box", "--"];
    expect(await run(...words, "echo", "clean")).toEqual({ status: 0, stdout: "clean\n", stderr: "" });
  });

  test("-l runs the login shell, with the words as its line", async () => {
    expect((await run("-l", "box", "--", "echo", "'a  b'", "$0")).stdout).toMatch(/^a {2}b -\w+\n$/);
    expect(await world.daemon.run(["exec", "-l", "box"], Buffer.from("exit 3\n"))).toMatchObject({ status: 3 });
  });
});

describe("streams", () => {
  test("bytes go in and out unchanged, stdout and stderr apart", async () => {
    const bytes = randomBytes(3_000_000);
    const child = world.daemon.spawn(["exec", "box", "--", "cat"], bytes);
    expect(Buffer.compare(Buffer.from(await new Response(child.stdout).bytes()), bytes)).toBe(0);
    expect(await exec("sh", "-c", "echo out; echo err >&2")).toMatchObject({ stdout: "out\n", stderr: "err\n" });
  });

  test("a stdin that never ends holds nothing up", async () => {
    const child = world.daemon.spawn(["exec", "box", "--", "echo", "done"], "pipe");
    expect(await new Response(child.stdout).text()).toBe("done\n");
    expect(await child.exited).toBe(0);
  });

  test("a command that doesn't read its input ends while there is more", async () => {
    expect(await world.shell("banger exec box -- true </dev/zero")).toMatchObject({ status: 0 });
    expect(await world.shell("yes | banger exec box -- head -1")).toMatchObject({ status: 0, stdout: "y\n" });
  });
});

describe("signals", () => {
  const SCRIPT =
    'for s in INT TERM HUP QUIT USR1; do trap "echo $s; exit 7" $s; done; echo ready; while :; do sleep 0.05; done';

  test.each(["SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT", "SIGUSR1"] as const)(
    "%s reaches the command, whose own status comes back",
    async (signal) => {
      const child = world.daemon.spawn(["exec", "box", "--", "bash", "-c", SCRIPT]);
      const line = readLines(child.stdout);
      expect(await line()).toBe("ready");
      child.kill(signal);
      expect(await line()).toBe(signal.slice(3));
      expect(await child.exited).toBe(7);
    },
  );

  test("those that mean what the command makes of them reach it any number of times", async () => {
    const script =
      "n=0; trap 'n=$((n+1)); echo $n; [ $n -lt 5 ] || exit 9' USR1; echo ready; while :; do sleep 0.05; done";
    const child = world.daemon.spawn(["exec", "box", "--", "bash", "-c", script]);
    const line = readLines(child.stdout);
    expect(await line()).toBe("ready");
    for (let n = 1; n <= 5; n++) {
      child.kill("SIGUSR1");
      expect(await line()).toBe(String(n));
    }
    expect(await child.exited).toBe(9);
  });

  test("the third one leaves, and the guest ends what is left", async () => {
    const child = world.daemon.spawn([
      "exec",
      "box",
      "--",
      "bash",
      "-c",
      "trap 'echo no' INT; echo $$; while :; do sleep 0.05; done",
    ]);
    const line = readLines(child.stdout);
    const pid = await line();
    for (const expected of ["no", "no"]) {
      child.kill("SIGINT");
      expect(await line()).toBe(expected);
    }
    child.kill("SIGINT");
    expect(await child.exited).toBe(130);
    await eventually("the command is gone", 20_000, () => !isRunning(pid ?? ""));
  }, 30_000);
});

describe("--timeout", () => {
  test("ends the command and all that it started", async () => {
    const script =
      "setsid sleep 300 & echo $!; sleep 300 & echo $!; echo $$; trap '' TERM; while :; do sleep 0.05; done";
    const { status, stdout, stderr } = await run("--timeout", "500ms", "box", "--", "bash", "-c", script);
    expect({ status, stderr }).toEqual({
      status: 124,
      stderr: "error: the command ran longer than 0.5 s [EXEC_TIMEOUT]\n",
    });
    const pids = stdout.trim().split("\n");
    expect(pids).toHaveLength(3);
    await eventually("all are gone", 10_000, () => !pids.some(isRunning));
  });

  test("a process that only holds the output doesn't keep exec", async () => {
    const script = "sleep 300 & echo $!";
    const { status, stdout } = await run("--timeout", "1m", "box", "--", "sh", "-c", script);
    const pid = stdout.trim();
    expect({ status, isRunning: isRunning(pid) }).toEqual({ status: 0, isRunning: true });
    process.kill(Number(pid), "SIGKILL");
  });

  test("--wait-output waits for it", async () => {
    const script = "(sleep 1; echo late) & echo early";
    expect((await run("--wait-output", "box", "--", "sh", "-c", script)).stdout).toBe("early\nlate\n");
    const held = await run("--wait-output", "--timeout", "1s", "box", "--", "sh", "-c", "sleep 300 & echo $!");
    expect(held.status).toBe(124);
    await eventually("it is gone", 10_000, () => !isRunning(held.stdout.trim()));
  });

  test.each(["0", "25d", "soon"])("%s is refused", async (duration) => {
    expect(await run("--timeout", duration, "box", "--", "true")).toMatchObject({ status: 2 });
  });
});

describe("--json", () => {
  const ask = async (...words: string[]): Promise<{ readonly status: number; readonly result: ExecResult }> => {
    const { status, stdout } = await run("--json", ...words);
    return { status, result: v.parse(ExecResult, JSON.parse(stdout)) };
  };

  test("the output, apart, and what it took", async () => {
    const { status, result } = await ask("box", "--", "sh", "-c", "echo out; echo err >&2; exit 3");
    expect(status).toBe(3);
    expect(result).toMatchObject({
      ...{ vm: "box", status: 3, signal: null, timedOut: false },
      stdout: { encoding: "utf-8", data: "out\n", truncated: false },
      stderr: { encoding: "utf-8", data: "err\n", truncated: false },
    });
    expect(result.peakMemoryBytes).toBeGreaterThan(100_000);
    expect(result.wallMs).toBeGreaterThan(0);
  });

  test("what isn't text, as base64", async () => {
    const { result } = await ask("box", "--", "printf", "\\377\\000");
    expect(result.stdout).toEqual({
      encoding: "base64",
      data: Buffer.from([255, 0]).toString("base64"),
      truncated: false,
    });
  });

  test("of more than 1 MiB the beginning, in whole letters", async () => {
    const { result } = await ask("box", "--", "sh", "-c", "printf x; yes ü | tr -d '\\n' | head -c 3000000");
    expect(result.stdout).toMatchObject({ encoding: "utf-8", truncated: true });
    expect(Buffer.byteLength(result.stdout.data)).toBe(1024 * 1024 - 1);
    expect(result.stdout.data).toEndWith("ü");
  });

  test("signals and time limits", async () => {
    expect(await ask("box", "--", "sh", "-c", "kill -9 $$")).toMatchObject({
      status: 137,
      result: { status: 137, signal: "SIGKILL", timedOut: false },
    });
    expect(await ask("--timeout", "300ms", "box", "--", "sleep", "300")).toMatchObject({
      status: 124,
      result: { status: 124, signal: "SIGTERM", timedOut: true },
    });
  });

  test("a command that isn't there, and a failure", async () => {
    expect(await ask("box", "--", "no-such")).toMatchObject({
      status: 127,
      result: { status: 127, stderr: { data: "no-such: command not found in box\n" } },
    });
    const { status, stdout } = await run("--json", "-w", "/no/such", "box", "--", "true");
    expect({ status, error: JSON.parse(stdout).error.code }).toEqual({ status: 125, error: "EXEC_FAILED" });
  });

  test("not with a terminal", async () => {
    expect(await run("--json", "-t", "box", "--", "true")).toMatchObject({ status: 2 });
  });
});

test("more execs at once than the guest has ports all run", async () => {
  const numbers = Array.from({ length: 24 }, (_, i) => i);
  const results = await Promise.all(numbers.map(async (i) => await exec("sh", "-c", `echo ${i}; exit ${i}`)));
  expect(results).toEqual(numbers.map((i) => ({ status: i, stdout: `${i}\n`, stderr: "" })));
}, 60_000);
