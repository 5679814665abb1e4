import { describe, expect, test } from "bun:test";
import { runTool, toolEnvironment, tryTool } from "../../../src/daemon/run-tool.ts";
import { eventually } from "../../support/banger.ts";

/** Told from that of another run. */
const sleep = `sleep ${1_000_000 + process.pid}`;
const isRunning = (line: string): boolean => Bun.spawnSync(["pgrep", "-f", `^${line}`]).exitCode === 0;
const sh = (script: string): string[] => ["sh", "-c", script];

describe("tryTool", () => {
  test("returns both outputs and the status", async () => {
    expect(await tryTool(sh("echo out; echo err >&2; exit 3"), { timeoutMs: 5000 })).toEqual({
      exitCode: 3,
      stdout: "out\n",
      stderr: "err\n",
    });
  });

  test("gives stdin and closes it", async () => {
    expect((await tryTool(["cat"], { timeoutMs: 5000, stdin: "hello" })).stdout).toBe("hello");
    expect((await tryTool(["cat"], { timeoutMs: 5000 })).stdout).toBe("");
  });

  test("a program that isn't there is TOOL_MISSING by name", async () => {
    await expect(tryTool(["no-such-tool"], { timeoutMs: 5000 })).rejects.toMatchObject({
      code: "TOOL_MISSING",
      details: { program: "no-such-tool" },
    });
  });

  test("the deadline ends the tool and what it started", async () => {
    const ended = tryTool(sh(`${sleep} & ${sleep}; :`), { timeoutMs: 200 });
    await expect(ended).rejects.toMatchObject({ code: "FAILED" });
    await eventually("both are gone", 5000, () => !isRunning(sleep));
  });

  test("the deadline holds though a process of another session keeps the pipes open", async () => {
    const ended = tryTool(sh(`setsid ${sleep} & ${sleep}`), { timeoutMs: 100 });
    await expect(ended).rejects.toMatchObject({ code: "FAILED" });
    expect(isRunning(sleep)).toBe(true);
    Bun.spawnSync(["pkill", "-f", `^${sleep}`]);
  });

  test("an abort ends it, and its reason is what is thrown", async () => {
    const abort = new AbortController();
    setTimeout(() => abort.abort(new Error("enough")), 50);
    await expect(tryTool(["sleep", "60"], { timeoutMs: 60_000, signal: abort.signal })).rejects.toThrow("enough");
    await expect(
      tryTool(["true"], { timeoutMs: 60_000, signal: AbortSignal.abort(new Error("before")) }),
    ).rejects.toThrow("before");
  });

  test("output without end is cut off", async () => {
    await expect(tryTool(["yes"], { timeoutMs: 20_000 })).rejects.toMatchObject({
      code: "FAILED",
      message: expect.stringContaining("said more than"),
    });
  });

  test("lines of stderr are handed on as they come, carriage returns too", async () => {
    const lines: string[] = [];
    await tryTool(sh("printf 'one\\rtwo\\nthree\\n' >&2"), {
      timeoutMs: 5000,
      onStderrLine: (line) => lines.push(line),
    });
    expect(lines).toEqual(["one", "two", "three"]);
  });
});

test("runTool says what the tool said", async () => {
  await expect(runTool(sh("echo why >&2; exit 2"), { timeoutMs: 5000 })).rejects.toMatchObject({
    code: "FAILED",
    message: expect.stringContaining("why"),
    details: { exitCode: 2 },
  });
});

test("tools see nothing that steers loaders or shells", () => {
  process.env["LD_PRELOAD_FOR_TEST"] = "x";
  process.env["BASH_ENV"] = "/x";
  try {
    expect(Object.keys(toolEnvironment())).not.toContain("BASH_ENV");
    expect(Object.keys(toolEnvironment())).not.toContain("LD_PRELOAD_FOR_TEST");
    expect(toolEnvironment()["PATH"]).toContain("/usr/sbin");
  } finally {
    delete process.env["BASH_ENV"];
    delete process.env["LD_PRELOAD_FOR_TEST"];
  }
});
