import { expect, test } from "bun:test";
import { mkdtemp, rm, stat } from "node:fs/promises";
import { join } from "node:path";
import { lastWords, runProgram } from "../../../src/shared/run-program.ts";

const options = { timeoutMs: 20_000, env: { PATH: "/usr/bin:/bin" }, stdoutLimitBytes: 1000, stderrKept: 10 };
const sh = (script: string): readonly string[] => ["/bin/sh", "-c", script];

test("bytes, the end of standard error, and the status come back", async () => {
  const { exitCode, stdout, stderr } = await runProgram(
    sh("printf '\\377ok'; echo 0123456789abcdef >&2; exit 3"),
    options,
  );
  expect({ exitCode, stdout: [...stdout], stderr }).toEqual({
    exitCode: 3,
    stdout: [0xff, 0x6f, 0x6b],
    stderr: "789abcdef\n",
  });
  expect(lastWords({ stdout, stderr: " \n" }, 1)).toEqual(["\ufffdok"]);
});

test("more output than the limit ends the program, and what it started", async () => {
  const flood = runProgram(sh("yes & yes"), { ...options, name: "flood" });
  await expect(flood).rejects.toMatchObject({ code: "FAILED", message: "flood said more than 1000 bytes" });
});

test("the deadline ends the program, what it started, and the wait for pipes that one outside its group holds", async () => {
  for (const script of ["sleep 1000 & sleep 1000", "setsid sleep 5; sleep 5"]) {
    const late = runProgram(sh(script), { ...options, timeoutMs: 100, name: "late", asked: ["late", "words"] });
    await expect(late).rejects.toMatchObject({
      code: "FAILED",
      message: "late did not end within 0.1 s",
      details: { argv: ["late", "words"] },
    });
  }
});

test("an abort ends it with the signal's reason, before and while it runs", async () => {
  const reason = new Error("enough");
  await expect(runProgram(sh("true"), { ...options, signal: AbortSignal.abort(reason) })).rejects.toBe(reason);
  const controller = new AbortController();
  const running = runProgram(sh("echo up >&2; sleep 1000"), {
    ...options,
    signal: controller.signal,
    onStderrLine: () => controller.abort(reason),
  });
  await expect(running).rejects.toBe(reason);
});

test("the umask is the program's alone", async () => {
  const directory = await mkdtemp("/tmp/bt-program-");
  try {
    const before = process.umask();
    await runProgram(sh("echo > mine"), { ...options, cwd: directory, umask: 0o077 });
    expect((await stat(join(directory, "mine"))).mode & 0o777).toBe(0o600);
    expect(process.umask()).toBe(before);
  } finally {
    await rm(directory, { recursive: true });
  }
});
