import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { mkdtemp, rm } from "node:fs/promises";
import { join } from "node:path";
import {
  quote,
  type RemoteExec,
  remoteExecCommand,
  remoteSignalCommand,
  remoteStatusCommand,
} from "../../../src/shared/remote-command.ts";

const id = (): string => crypto.randomUUID().replaceAll("-", "").slice(0, 12);
const exec = (argv: readonly string[], more: Partial<RemoteExec> = {}): RemoteExec => ({
  execId: id(),
  workDir: "/",
  argv,
  env: [],
  ...more,
});

interface Result {
  readonly status: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** As sshd does it: `shell -c LINE`, in a session of its own. */
function start(line: string, shell = "bash", stdin = ""): Bun.Subprocess<Uint8Array, "pipe", "pipe"> {
  return Bun.spawn([shell, "-c", line], {
    stdin: new TextEncoder().encode(stdin),
    stdout: "pipe",
    stderr: "pipe",
    detached: true,
    env: { PATH: process.env["PATH"] ?? "", HOME: "/nonexistent" },
  });
}

async function run(line: string, shell = "bash", stdin = ""): Promise<Result> {
  const child = start(line, shell, stdin);
  const [stdout, stderr] = await Promise.all([new Response(child.stdout).text(), new Response(child.stderr).text()]);
  return { status: await child.exited, stdout, stderr };
}

describe.each(["bash", "dash"])("in %s", (shell) => {
  test.each([
    [["true"], 0],
    [["sh", "-c", "exit 42"], 42],
    [["sh", "-c", "kill -TERM $$"], 143],
    [["sh", "-c", "kill -KILL $$"], 137],
    [["no-such-command-here"], 127],
    [["/etc/passwd"], 126],
    [["--help"], 127],
  ])("%p ends with %d", async (argv, status) => {
    expect((await run(remoteExecCommand(exec(argv)), shell)).status).toBe(status);
  });

  test("a directory that isn't there is 125, and the message names it", async () => {
    const result = await run(remoteExecCommand(exec(["true"], { workDir: "/no/such 'place" })), shell);
    expect(result).toMatchObject({ status: 125, stdout: "" });
    expect(result.stderr).toContain("/no/such 'place");
  });

  test("stdin, stdout and stderr pass as they are, and nothing is added", async () => {
    const result = await run(remoteExecCommand(exec(["sh", "-c", "wc -c; echo err >&2"])), shell, "12345");
    expect({ ...result, stdout: result.stdout.trim() }).toEqual({ status: 0, stdout: "5", stderr: "err\n" });
  });

  test("a command ended by a signal says nothing of its own", async () => {
    expect((await run(remoteExecCommand(exec(["sh", "-c", "kill -TERM $$"])), shell)).stderr).toBe("");
  });

  test("the environment and the directory reach the command", async () => {
    const line = remoteExecCommand(
      exec(["sh", "-c", 'printf %s "$A"; pwd'], { workDir: "/usr", env: [["A", "it's $HOME `id`\n"]] }),
    );
    expect((await run(line, shell)).stdout).toBe("it's $HOME `id`\n/usr\n");
  });

  test("255 of the command is told from ssh's own, once", async () => {
    const ended = exec(["sh", "-c", "exit 255"]);
    expect((await run(remoteExecCommand(ended), shell)).status).toBe(255);
    expect((await run(remoteStatusCommand(ended.execId), shell)).status).toBe(0);
    expect((await run(remoteStatusCommand(ended.execId), shell)).status).toBe(1);
  });

  test("a signal reaches the command, whose own status comes back", async () => {
    const it = exec(["sh", "-c", "trap 'echo caught; exit 7' INT; echo ready; while :; do sleep 0.05; done"]);
    const child = start(remoteExecCommand(it), shell);
    const reader = child.stdout.getReader();
    expect(new TextDecoder().decode((await reader.read()).value)).toBe("ready\n");
    expect((await run(remoteSignalCommand(it.execId, "INT"), shell)).status).toBe(0);
    expect(new TextDecoder().decode((await reader.read()).value)).toBe("caught\n");
    expect(await child.exited).toBe(7);
  });

  test("TERM ends a command that ignores nothing, and its children with it", async () => {
    const it = exec(["sh", "-c", "echo $$; sleep 4711 & wait"]);
    const child = start(remoteExecCommand(it), shell);
    const reader = child.stdout.getReader();
    await reader.read();
    await run(remoteSignalCommand(it.execId, "TERM"), shell);
    expect(await child.exited).toBe(143);
    // Every writer is gone only when the child's child is.
    expect((await reader.read()).done).toBe(true);
  });

  test("a signal for one exec leaves another alone, and one for an ended exec is no error", async () => {
    const argv = ["sh", "-c", "echo ready; exec sleep 4711"];
    const [one, other] = [exec(argv), exec(argv)];
    const [first, second] = [start(remoteExecCommand(one), shell), start(remoteExecCommand(other), shell)];
    await Promise.all([first.stdout.getReader().read(), second.stdout.getReader().read()]);
    await run(remoteSignalCommand(one.execId, "KILL"), shell);
    await first.exited;
    expect(second.exitCode).toBeNull();
    await run(remoteSignalCommand(other.execId, "KILL"), shell);
    await second.exited;
    expect((await run(remoteSignalCommand(other.execId, "KILL"), shell)).status).toBe(0);
  });
});

test("a login shell's files are read, and their settings don't change how the command ends", async () => {
  const home = await mkdtemp("/tmp/banger-remote-");
  try {
    await Bun.write(join(home, ".profile"), "export FROM_PROFILE=yes\nset -eu\ncd /usr\n");
    const line = remoteExecCommand(exec(["sh", "-c", "echo $FROM_PROFILE; pwd; exit 3"]));
    const child = Bun.spawn(["bash", "-c", line], {
      stdout: "pipe",
      env: { PATH: process.env["PATH"] ?? "", HOME: home },
    });
    expect(await new Response(child.stdout).text()).toBe("yes\n/\n");
    expect(await child.exited).toBe(3);
  } finally {
    await rm(home, { recursive: true });
  }
});

test("what is no id or variable name is refused, not quoted", () => {
  expect(() => remoteExecCommand({ ...exec(["true"]), execId: "a;reboot" })).toThrow(TypeError);
  expect(() => remoteSignalCommand("a'b", "INT")).toThrow(TypeError);
  expect(() => remoteStatusCommand("../x")).toThrow(TypeError);
  expect(() => remoteExecCommand(exec(["true"], { env: [["A;reboot", "x"]] }))).toThrow(TypeError);
});

describe("quote", () => {
  test("any arguments reach the command unchanged", async () => {
    const argument = fc.oneof(
      fc.string({ unit: "binary" }),
      fc.string({
        unit: fc.constantFrom("'", '"', "\\", "$", "`", "\n", " ", "*", "!", "-", "a", "\t", ";", "&", "~"),
      }),
    );
    await fc.assert(
      fc.asyncProperty(
        fc.array(
          argument.map((text) => text.replaceAll("\0", "").toWellFormed()),
          { maxLength: 8 },
        ),
        async (args) => {
          const result = await run(`printf '%s\\0' ${["x", ...args].map(quote).join(" ")}`);
          expect(result.stdout.split("\0").slice(1, -1)).toEqual(args);
        },
      ),
      { numRuns: 60 },
    );
  });

  test("plain words stay readable", () => {
    expect(quote("/usr/bin/env")).toBe("/usr/bin/env");
    expect(quote("")).toBe("''");
  });
});
