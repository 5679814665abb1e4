/** What the agent runs: statuses, arguments, environment, users, directories. On the sanitizer build. */

import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { chmodSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { AGENT_ERRORS, AGENT_LIMITS } from "../../../src/shared/agent/protocol.ts";
import { type Command, type Ran, runCommand, startAgent, type TestAgent } from "../../support/agent.ts";

if (process.env["BANGER_TEST_ROOT"] !== "1") throw new Error("these tests run in namespaces: bun test/root/run.ts");

setDefaultTimeout(120_000);

let agent: TestAgent;
let directory: string;
const bound: string[] = [];

/** Another text in place of a file of this machine, in this mount namespace. */
function bind(path: string, text: string): void {
  const file = join(directory, path.replaceAll("/", "_"));
  writeFileSync(file, text);
  writeFileSync(path, "", { flag: "a" });
  if (Bun.spawnSync(["mount", "--bind", file, path]).exitCode !== 0) throw new Error(`can't bind ${path}`);
  bound.push(path);
}

const PASSWD = [
  "root:x:0:0:root:/root:/bin/sh",
  "broken:x:not-a-number:0::/:/bin/sh",
  "short:x:1",
  `long:x:5:5:${"x".repeat(100_000)}:/:/bin/sh`,
  "sam:x:4001:4001::HOME:/bin/dash",
  "homeless:x:4002:4002::/nonexistent/home:/bin/sh",
  "4001:x:4003:4003::/tmp:/bin/sh",
  "no-shell:x:4004:4004::/tmp:/nonexistent/shell",
  "last:x:4005:4005::/tmp:",
];
const GROUP = [
  "root:x:0:",
  "wheel:x:70:root,sam",
  "sammy:x:71:sammy",
  "many:x:72:a,b,sam,c",
  "broken:x:x:sam",
  "own:x:4001:sam",
];

beforeAll(async () => {
  directory = mkdtempSync("/tmp/banger-agent-exec-");
  chmodSync(directory, 0o755);
  mkdirSync(join(directory, "home/.local/bin"), { recursive: true });
  mkdirSync(join(directory, "home/.local/share/mise/shims"), { recursive: true });
  bind("/etc/passwd", `${PASSWD.join("\n").replace("HOME", join(directory, "home"))}`);
  bind("/etc/group", `${GROUP.join("\n")}\n`);
  bind(
    "/etc/environment",
    "# comment\nexport EDITOR=\"vi\"\n  PLAIN=a b \nQUOTED='x=y'\nnothing\n=none\nPATH=/opt/own:/usr/bin:/bin\n",
  );
  agent = await startAgent();
});
afterAll(async () => {
  for (const path of bound) Bun.spawnSync(["umount", path]);
  rmSync(directory, { recursive: true, force: true });
  await agent[Symbol.asyncDispose]();
});

const exec = async (command: Command, stdin?: string): Promise<Ran> => await runCommand(agent, command, stdin);
const shell = async (script: string, more: Partial<Command> = {}): Promise<Ran> =>
  await exec({ argv: ["/bin/sh", "-c", script], ...more });
const out = async (script: string, more: Partial<Command> = {}): Promise<string> =>
  (await shell(script, more)).stdout.toString();

function fileOf(name: string, contents: string | Uint8Array, mode = 0o755): string {
  const path = join(directory, name);
  writeFileSync(path, contents);
  chmodSync(path, mode);
  return path;
}

async function refusal(command: Command): Promise<readonly [number, number, string]> {
  const { last, others, stdout } = await exec(command);
  expect([last?.name, others.length, stdout.length]).toEqual(["error", 0, 0]);
  return [Number(last?.fields["code"]), Number(last?.fields["errno"]), last?.bytes.toString() ?? ""];
}

describe("statuses", () => {
  test.each([0, 1, 7, 124, 127, 255])("an exit with %d", async (status) => {
    const { last, others } = await shell(`exit ${status}`);
    expect(others).toEqual(["started"]);
    expect(last).toMatchObject({ name: "exited", fields: { status, signal: 0, flags: 0 } });
  });

  test.each([1, 2, 6, 9, 15, 34, 64])("signal %d", async (number) => {
    const { last } = await shell(`ulimit -c 0; kill -${number} $$`);
    expect(last).toMatchObject({ name: "exited", fields: { status: 128 + number, signal: number, flags: 0 } });
  });

  test("times and memory are the command's", async () => {
    const { last } = await shell("i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done");
    expect(Number(last?.fields["userMicroseconds"])).toBeGreaterThan(1000);
    expect(Number(last?.fields["wallMicroseconds"])).toBeGreaterThanOrEqual(
      Number(last?.fields["userMicroseconds"]) / 2,
    );
    expect(Number(last?.fields["peakKib"])).toBeGreaterThan(100);
  });
});

describe("what can't run", () => {
  test("says so by execve's own errno, and starts nothing", async () => {
    const { notFound, notExecutable, directory: noDirectory } = AGENT_ERRORS;
    expect(await refusal({ argv: ["nonesuch"] })).toEqual([notFound, 2, "nonesuch: No such file or directory"]);
    expect(await refusal({ argv: [""] })).toEqual([notFound, 2, ": No such file or directory"]);
    expect(await refusal({ argv: ["/etc/passwd/x"] })).toEqual([notFound, 20, "/etc/passwd/x: Not a directory"]);
    expect(await refusal({ argv: ["/etc"] })).toEqual([notExecutable, 13, "/etc: Permission denied"]);
    expect((await refusal({ argv: [fileOf("plain", "echo no\n", 0o644)] }))[0]).toBe(notExecutable);
    expect((await refusal({ argv: [fileOf("lost", "#!/nonexistent/interpreter\n")] }))[0]).toBe(notFound);
    expect(await refusal({ argv: ["true"], directory: "/nonexistent" })).toEqual([
      noDirectory,
      2,
      "/nonexistent: No such file or directory",
    ]);
    expect((await refusal({ argv: ["true"], directory: "/root", user: "sam" })).slice(0, 2)).toEqual([noDirectory, 13]);
  });

  test("a program of another machine isn't taken for a script", async () => {
    const foreign = fileOf(
      "foreign",
      Buffer.from("\u007fELF\u0002\u0001\u0001\u0000\u0000\u0000\n echo no\n", "latin1"),
    );
    expect((await refusal({ argv: [foreign] })).slice(0, 2)).toEqual([AGENT_ERRORS.notExecutable, 8]);
  });

  test("names are told in UTF-8, whatever they are", async () => {
    const [, , text] = await refusal({ argv: [Buffer.from("/ü\u0001\u00ff/x\n".replace("\u00ff", ""), "utf8")] });
    expect(text).toStartWith("/ü?/x?: ");
    expect((await refusal({ argv: [Buffer.from([0x2f, 0xff, 0xc3])] }))[2]).toStartWith("/??: ");
  });
});

test("a script without an interpreter is run by a shell, and an empty file too", async () => {
  const script = fileOf("script", 'echo "$0" "$@"; exit 4\n');
  const { last, stdout } = await exec({ argv: [script, "a b", ""] });
  expect([stdout.toString(), last?.fields["status"]]).toEqual([`${script} a b \n`, 4]);
  expect((await exec({ argv: [fileOf("empty", "")] })).last?.fields["status"]).toBe(0);
});

describe("arguments", () => {
  test("are bytes: no shell, no quoting", async () => {
    const argv = ["printf", "%s\\n", "$HOME", "a'b\"c", "", " ", "*", "\n", "ü", "-e"];
    expect((await exec({ argv })).stdout.toString()).toBe(argv.slice(2).join("\n") + "\n");
    const raw = Buffer.from([1, 2, 0x80, 0xff, 0xfe]);
    expect((await exec({ argv: ["printf", "%s", raw] })).stdout).toEqual(raw);
  });

  test("one of 131,000 bytes, and fifteen of them", async () => {
    const long = "x".repeat(131_000);
    expect(await out('printf %s "$1" | wc -c', { argv: ["/bin/sh", "-c", 'printf %s "$1" | wc -c', "sh", long] })).toBe(
      "131000\n",
    );
    const argv = ["/bin/sh", "-c", 'printf %s "$@" | wc -c', "sh", ...Array.from({ length: 15 }, () => long)];
    expect((await exec({ argv })).stdout.toString()).toBe(`${15 * 131_000}\n`);
  });

  test("100,000 of them", async () => {
    const many = Array.from({ length: 100_000 }, (_, i) => String(i));
    expect((await exec({ argv: ["/bin/sh", "-c", "echo $#", "sh", ...many] })).stdout.toString()).toBe("100000\n");
  });

  test("as many as the protocol allows reach the kernel, which says they are too many", async () => {
    const argv = ["true", ...Array.from({ length: 16 }, () => "y".repeat(131_071 - 1))];
    const left = AGENT_LIMITS.argumentsBytes - argv.reduce((sum, argument) => sum + argument.length + 1, 0);
    expect(left).toBeGreaterThan(1);
    const [code, errno] = await refusal({ argv: [...argv, "z".repeat(left - 1)] });
    expect([code, errno]).toEqual([AGENT_ERRORS.notExecutable, 7]);
    expect((await refusal({ argv: [...argv, "z".repeat(left)] }))[0]).toBe(AGENT_ERRORS.protocol);
  });

  test("one longer than the kernel takes", async () => {
    expect((await refusal({ argv: ["true", "x".repeat(131_072)] })).slice(0, 2)).toEqual([
      AGENT_ERRORS.notExecutable,
      7,
    ]);
  });
});

describe("the environment", () => {
  test("is a login's, of /etc/environment, and nothing of the agent's", async () => {
    const home = join(directory, "home");
    const lines = (await out("env", { user: "sam" }))
      .trim()
      .split("\n")
      .filter((line) => !line.startsWith("PWD="));
    expect(lines.toSorted()).toEqual(
      [
        "EDITOR=vi",
        `HOME=${home}`,
        "LANG=C.UTF-8",
        "LOGNAME=sam",
        `PATH=${home}/.local/bin:${home}/.local/share/mise/shims:/opt/own:/usr/bin:/bin`,
        "PLAIN=a b",
        "QUOTED=x=y",
        "SHELL=/bin/dash",
        "USER=sam",
      ].toSorted(),
    );
  });

  test("has the host's variables on top", async () => {
    const env = { PATH: "/bin", EDITOR: "", NEW: "a=b\nc" };
    const lines = (await exec({ argv: ["env", "-0"], env })).stdout.toString().split("\0");
    expect(lines.filter((line) => /^(PATH|EDITOR|NEW)=/.test(line)).toSorted()).toEqual([
      "EDITOR=",
      "NEW=a=b\nc",
      "PATH=/bin",
    ]);
  });

  test("may be as large as the kernel takes", async () => {
    const env = Object.fromEntries(Array.from({ length: 14 }, (_, i) => [`V${i}`, "v".repeat(130_000)]));
    expect((await exec({ argv: ["/bin/sh", "-c", "printf %s $V13 | wc -c"], env })).stdout.toString()).toBe("130000\n");
  });

  test("names the program along its PATH", async () => {
    const own = join(directory, "own");
    mkdirSync(own);
    fileOf("own/mine", "echo mine\n");
    fileOf("own/plain", "", 0o644);
    const env = { PATH: `/nonexistent:${own}:/bin` };
    expect((await exec({ argv: ["mine"], env })).stdout.toString()).toBe("mine\n");
    expect((await refusal({ argv: ["plain"], env })).slice(0, 2)).toEqual([AGENT_ERRORS.notExecutable, 13]);
  });
});

describe("users", () => {
  const id = async (user?: string): Promise<string> =>
    await out("echo $(id -u) $(id -g) $(id -G)", user === undefined ? {} : { user });

  test("have their number, group and groups", async () => {
    expect(await id()).toBe("0 0 0 70\n");
    expect(await id("sam")).toBe("4001 4001 4001 70 72\n");
  });

  test("are found by name before number", async () => {
    expect(await id("4001")).toBe("4003 4003 4003\n");
    expect(await id("4005")).toBe("4005 4005 4005\n");
    expect(await id("54321")).toBe("54321 54321 54321\n");
  });

  test.each([
    "nonesuch",
    "-1",
    "4294967295",
    "4294967296",
    "99999999999999999999",
    "sam:x",
    "root\n",
    " root",
    "broken",
    "short",
    "+1",
  ])("%j is nobody", async (user) => {
    expect((await refusal({ argv: ["true"], user })).slice(0, 2)).toEqual([AGENT_ERRORS.user, 0]);
  });

  test("without a home start at /, and without a shell have /bin/sh", async () => {
    expect(await out("pwd", { user: "homeless" })).toBe("/\n");
    expect(await out("echo $SHELL", { user: "last" })).toBe("/bin/sh\n");
  });

  test("own what they were given: they open it anew by name", async () => {
    expect(await out("cat /dev/stdin > /dev/stdout", { user: "sam" })).toBe("");
    expect(
      (await exec({ argv: ["sh", "-c", "cat /dev/stdin > /dev/stdout"], user: "sam" }, "text")).stdout.toString(),
    ).toBe("text");
    const { last } = await shell("echo no > /etc/passwd", { user: "sam" });
    expect(last?.fields["status"]).not.toBe(0);
  });
});

test("a relative directory is below the home", async () => {
  expect(await out("pwd", { user: "sam", directory: ".local" })).toBe(`${join(directory, "home/.local")}\n`);
  expect(await out("pwd", { directory: "/" })).toBe("/\n");
});

describe("a login shell", () => {
  test("is the user's own, knows that it is one, and gets the arguments joined", async () => {
    const profile = join(directory, "home/.profile");
    writeFileSync(profile, "FROM_PROFILE=yes\n");
    const ran = await exec({ argv: ["echo", "$0", "$FROM_PROFILE", "  x"], user: "sam", flags: ["login"] });
    expect(ran.stdout.toString()).toBe("-dash yes x\n");
    rmSync(profile);
  });

  test("without arguments reads commands", async () => {
    const ran = await exec({ argv: [], user: "sam", flags: ["login"] }, "echo read; exit 5\n");
    expect([ran.stdout.toString(), ran.last?.fields["status"]]).toEqual(["read\n", 5]);
  });

  test("that isn't there", async () => {
    expect((await refusal({ argv: [], user: "no-shell", flags: ["login"] }))[0]).toBe(AGENT_ERRORS.notFound);
  });
});

test("a command begins as a fresh login: signals, mask, limits, descriptors, session", async () => {
  const status = await out(
    "cat /proc/self/status | grep -E '^Sig(Blk|Ign|Cgt)'; umask; cat /proc/self/oom_score_adj; ulimit -n",
  );
  expect(status).toBe(
    "SigBlk:\t0000000000000000\nSigIgn:\t0000000000000000\nSigCgt:\t0000000000000000\n0022\n0\n1024\n",
  );
  expect(await out("ls /proc/self/fd | tr '\\n' ' '")).toBe("0 1 2 3 ");
  expect(await out("ps -o pid=,pgid=,sid= -p $$ | tr -s ' ' '\\n' | grep . | uniq | wc -l")).toBe("1\n");
});

test("noStdin is /dev/null", async () => {
  expect(await out("readlink /proc/self/fd/0; cat", { flags: ["noStdin"] })).toBe("/dev/null\n");
});
