/** exec as a process, against a "guest" that is this machine: the ssh in between runs the line it is given. */

import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { randomBytes } from "node:crypto";
import { readFileSync } from "node:fs";
import { eventually } from "../../../support/banger.ts";
import { type FakeDaemon, startFakeDaemon } from "../../../support/fake-daemon.ts";

let daemon: FakeDaemon;
beforeAll(async () => {
  daemon = await startFakeDaemon();
  await daemon.actAsGuest();
});
afterAll(async () => await daemon[Symbol.asyncDispose]());

/** Empty for a process that has ended, whether or not its parent has asked after it yet. */
function readCommandLine(pid: string): string {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, "utf8");
  } catch {
    return "";
  }
}

const exec = async (...words: string[]) => await daemon.run(["exec", "box", "--", ...words]);

describe("exec", () => {
  test.each([
    [["true"], 0],
    [["sh", "-c", "exit 42"], 42],
    [["sh", "-c", "kill -TERM $$"], 143],
    [["no-such-command-anywhere"], 127],
    [["/etc/passwd"], 126],
    [["sh", "-c", "exit 255"], 255],
  ])("%p ends with %d", async (words, status) => {
    expect((await exec(...words)).status).toBe(status);
  });

  test("bytes go in and out unchanged, stdout and stderr apart", async () => {
    const bytes = randomBytes(300_000);
    const child = daemon.spawn(["exec", "box", "--", "cat"], bytes);
    expect(Buffer.compare(Buffer.from(await new Response(child.stdout).bytes()), bytes)).toBe(0);
    expect(await exec("sh", "-c", "echo out; echo err >&2")).toMatchObject({ stdout: "out\n", stderr: "err\n" });
  });

  test("arguments and values come through as they are", async () => {
    const hostile = ["a b", "$(id)", "`id`", "'", '"', "\\", "*", "", "-h", "ü\n;"];
    expect((await exec("printf", "%s|", ...hostile)).stdout).toBe(hostile.map((word) => `${word}|`).join(""));
    const result = await daemon.run([
      "exec",
      "-e",
      "A=x 'y' $z",
      "-w",
      "/usr",
      "box",
      "--",
      "sh",
      "-c",
      'echo "$A"; pwd',
    ]);
    expect(result.stdout).toBe("x 'y' $z\n/usr\n");
  });

  test("a stdin that never ends holds nothing up", async () => {
    const child = daemon.spawn(["exec", "box", "--", "echo", "done"], "pipe");
    expect(await new Response(child.stdout).text()).toBe("done\n");
    expect(await child.exited).toBe(0);
  });

  test.each([
    ["SIGINT", "INT"],
    ["SIGTERM", "TERM"],
    ["SIGHUP", "HUP"],
  ] as const)("%s reaches the command, whose own status comes back", async (signal, name) => {
    const script = `trap 'echo caught; exit 7' ${name}; echo ready; while :; do sleep 0.1; done`;
    const child = daemon.spawn(["exec", "box", "--", "sh", "-c", script]);
    const reader = child.stdout.getReader();
    const text = async (): Promise<string> => new TextDecoder().decode((await reader.read()).value);
    expect(await text()).toBe("ready\n");
    child.kill(signal);
    expect(await text()).toBe("caught\n");
    expect(await child.exited).toBe(7);
  });

  test("--timeout ends the command and says so", async () => {
    const result = await daemon.run(["exec", "--timeout", "300ms", "box", "--", "sh", "-c", "echo $$; exec sleep 300"]);
    expect(result.status).toBe(124);
    expect(result.stderr).toContain("[EXEC_TIMEOUT]");
    const pid = result.stdout.trim();
    await eventually("the command is gone", 10_000, () => readCommandLine(pid) === "");
  });

  test("a connection that is lost is 125, not the 255 ssh ends with", async () => {
    const lost = await startFakeDaemon();
    await lost.actAsGuest("exit 255");
    const result = await lost.run(["exec", "box", "--", "true"]);
    expect(result.status).toBe(125);
    expect(result.stderr).toContain("the connection to box was lost [EXEC_FAILED]");
    await lost[Symbol.asyncDispose]();
  });
});

test("ssh VM -- CMD has the command's status", async () => {
  expect(await daemon.run(["ssh", "box", "--", "sh", "-c", "echo hi; exit 3"])).toMatchObject({
    status: 3,
    stdout: "hi\n",
  });
});

test("a shell without a terminal reads its commands from stdin", async () => {
  // The fake's last word is then the destination, so what it runs is `root@guest`: not found, and not waited for.
  expect((await daemon.run(["ssh", "box"], Buffer.from("echo hi"))).status).toBe(127);
});
