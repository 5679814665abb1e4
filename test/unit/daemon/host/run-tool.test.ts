import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { limitedArgv } from "../../../../src/daemon/host/confine.ts";
import {
  detectConfinement,
  runTool,
  toolEnvironment,
  type ToolResult,
  tryTool,
} from "../../../../src/daemon/host/run-tool.ts";
import { eventually } from "../../../support/banger.ts";

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

const kind = await detectConfinement();
if (kind.kind === "limits") console.error(`no namespaces here, so confinement by limits only is tried: ${kind.reason}`);

describe("a confined tool", () => {
  let dir: string;
  beforeEach(async () => {
    dir = await mkdtemp("/tmp/banger-confined-");
    await writeFile(join(dir, "given"), "given");
    await writeFile(join(dir, "other"), "other");
  });
  afterEach(async () => {
    await rm(dir, { recursive: true, force: true });
  });
  const confined = async (script: string, processes = 8): Promise<ToolResult> =>
    await tryTool(sh(script), {
      timeoutMs: 10_000,
      confined: { reads: [join(dir, "given")], writes: [join(dir, "out")], processes },
    });
  beforeEach(async () => {
    await writeFile(join(dir, "out"), "");
  });

  const inNamespaces = describe.skipIf(kind.kind === "limits");

  inNamespaces("where the kernel allows namespaces", () => {
    test("reads what it is given, writes what it may, and sees nothing else of the host", async () => {
      const { stdout } = await confined(`
        cat ${dir}/given
        { echo x > ${dir}/given; } 2> /dev/null && echo wrote
        echo done > ${dir}/out
        for path in ${dir}/other /etc/passwd /home /root /proc/1 /sys /run /dev/kvm ${process.cwd()}; do
          [ ! -e "$path" ] || echo "sees $path"
        done
        { touch /tmp/x /usr/x; } 2> /dev/null && echo wrote
        :`);
      expect(stdout).toBe("given");
      expect(await readFile(join(dir, "given"), "utf8")).toBe("given");
      expect(await readFile(join(dir, "out"), "utf8")).toBe("done\n");
    });

    test("opens no network, not even the host's loopback", async () => {
      using server = Bun.listen({ hostname: "127.0.0.1", port: 0, socket: { data: () => undefined } });
      const dial = `bash -c 'exec 3<> /dev/tcp/127.0.0.1/${server.port}' 2>&1`;
      expect((await tryTool(sh(dial), { timeoutMs: 10_000 })).exitCode).toBe(0);
      expect((await confined(dial)).exitCode).not.toBe(0);
    });

    test("has no privilege, and no way to any", async () => {
      const outcome = await confined(`
        for attempt in 'mount -t tmpfs none /tmp' 'chroot /usr' 'unshare --user true' 'setpriv --inh-caps=+all true' 'mknod /tmp/x b 8 0'; do
          $attempt 2> /dev/null && echo "$attempt"
        done
        :`);
      expect(outcome.stdout).toBe("");
    });

    test("is killed with all it started, in whatever session", async () => {
      const ended = tryTool(sh(`(setsid ${sleep} &) ; setsid setsid ${sleep} & ${sleep}`), {
        timeoutMs: 1500,
        confined: { processes: 32 },
      });
      await expect(ended).rejects.toMatchObject({ code: "FAILED" });
      await eventually("none is left", 5000, () => !isRunning(sleep));
    });

    test("leaves nobody behind when it ends by itself", async () => {
      await confined(`setsid ${sleep} > /dev/null 2>&1 < /dev/null & :`);
      expect(isRunning(sleep)).toBe(false);
    });

    test.skipIf(process.getuid?.() === 0)("starts no more processes than it may (not enforced for root)", async () => {
      expect((await confined("true & true & wait; echo forked", 1)).stdout).toBe("");
    });
  });

  test("takes no more memory than a bound", async () => {
    // The buffer is asked for, never filled.
    const eat = "exec dd if=/dev/null of=/dev/null bs=1500M count=1";
    expect((await tryTool(sh(eat), { timeoutMs: 20_000 })).exitCode).toBe(0);
    const { exitCode, stderr } = await confined(eat);
    expect([exitCode, stderr]).toEqual([1, expect.stringContaining("memory exhausted")]);
  });

  test("where namespaces are forbidden the bounds stay, and no privilege comes from a set-uid program", async () => {
    const [program, ...args] = limitedArgv(sh("grep -E 'NoNewPrivs|address' /proc/self/status /proc/self/limits"), {});
    const { stdout } = await tryTool([program ?? "", ...args], { timeoutMs: 10_000 });
    expect(stdout).toMatch(/NoNewPrivs:\t1/);
    expect(stdout).toMatch(/Max address space +1073741824/);
  });
});
