/** Commands with a terminal. On the sanitizer build. */

import { afterAll, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import {
  type Command,
  openSession,
  readToEnd,
  runCommand,
  sendExec,
  type Session,
  startAgent,
  type TestAgent,
} from "../../support/agent.ts";

if (process.env["BANGER_TEST_ROOT"] !== "1") throw new Error("these tests run in namespaces: bun test/root/run.ts");

setDefaultTimeout(120_000);

let agent: TestAgent;
beforeAll(async () => {
  agent = await startAgent();
});
afterAll(async () => await agent[Symbol.asyncDispose]());

const TERMINAL = { flags: ["terminal"], rows: 24, columns: 80 } as const satisfies Partial<Command>;

async function begin(script: string, more: Partial<Command> = {}): Promise<Session> {
  const session = await openSession(agent);
  sendExec(session, { argv: ["/bin/bash", "--norc", "-c", script], ...TERMINAL, ...more });
  await session.expect("started");
  return session;
}

/** Reads output until this text has come. */
async function readUntil(session: Session, text: string): Promise<string> {
  let read = "";
  while (!read.includes(text)) {
    const frame = await session.next();
    if (frame?.name === "stdout") read += frame.bytes.toString();
    else if (frame?.name !== "started" && frame?.name !== "credit") throw new Error(`${frame?.name} after: ${read}`);
  }
  return read;
}

test("all output is stdout, of a terminal with that size, which the command controls", async () => {
  const script = "tty <&1; tty <&2; stty size; echo $(ps -o tty=,tpgid=,pid= -p $$); echo error >&2";
  const { stdout, stderr, last } = await runCommand(agent, {
    argv: ["/bin/bash", "-c", script],
    ...TERMINAL,
    rows: 33,
    columns: 101,
  });
  const lines = stdout.toString().split("\r\n");
  expect(lines[0]).toMatch(/^\/dev\/pts\/\d+$/);
  expect(lines.slice(0, 3)).toEqual([lines[0] ?? "", lines[0] ?? "", "33 101"]);
  const [tty, foreground, pid] = (lines[3] ?? "").split(" ");
  expect([`/dev/${tty}`, Number(foreground) > 0, Number(pid) > 0]).toEqual([lines[0] ?? "", true, true]);
  expect(lines[4]).toBe("error");
  expect(stderr.length).toBe(0);
  expect(last).toMatchObject({ name: "exited", fields: { status: 0, flags: 0 } });
});

test("belongs to the user", async () => {
  const script = "stat -c %u $(tty); echo reopened > $(tty)";
  const { stdout } = await runCommand(agent, { argv: ["/bin/sh", "-c", script], ...TERMINAL, user: "nobody" });
  expect(stdout.toString()).toBe("65534\r\nreopened\r\n");
});

test("a new size arrives, with SIGWINCH", async () => {
  const session = await begin("trap 'stty size; exit 3' WINCH; echo up; while :; do sleep 0.05; done");
  await readUntil(session, "up");
  session.send("resize", { rows: 50, columns: 132 });
  const { stdout, last } = await readToEnd(session);
  expect([stdout.toString().trim(), last?.fields["status"]]).toEqual(["50 132", 3]);
  session.close();
});

test("input is echoed and edited by the terminal, and its end is the terminal's", async () => {
  const session = await begin("cat; echo ended");
  session.send("stdin", {}, "abx\u007fc\n");
  expect(await readUntil(session, "abc\r\n")).toContain("abx");
  session.send("stdinEnd");
  const { stdout, last } = await readToEnd(session);
  expect(stdout.toString()).toContain("ended\r\n");
  expect(last?.fields["status"]).toBe(0);
  session.close();
});

test.each([
  ["ctrl-c", "\u0003", 130],
  ["ctrl-\\", "\u001c", 131],
])("%s ends the command by the terminal's own signal", async (_, key, status) => {
  // bash ignores SIGQUIT until it has become the command; dash doesn't.
  const session = await begin("", { argv: ["/bin/dash", "-c", "ulimit -c 0; echo up; exec sleep 1000"] });
  await readUntil(session, "up");
  session.send("stdin", {}, key);
  expect((await readToEnd(session)).last?.fields["status"]).toBe(status);
  session.close();
});

test("a signal goes to the foreground, as the keys do", async () => {
  const session = await begin(
    "set -m; trap 'echo shell' INT; (trap 'echo job; exit 7' INT; echo up; while :; do sleep 0.05; done); echo status $?",
  );
  await readUntil(session, "up");
  session.send("signal", { number: 2 });
  const { stdout } = await readToEnd(session);
  expect(stdout.toString()).toContain("job\r\nstatus 7\r\n");
  expect(stdout.toString()).not.toContain("shell");
  session.close();
});

test("large output is whole", async () => {
  const { stdout } = await runCommand(agent, { argv: ["seq", "1", "200000"], ...TERMINAL });
  expect(stdout.toString()).toBe(Array.from({ length: 200_000 }, (_, i) => `${i + 1}\r\n`).join(""));
});

test("every bit passes through a raw terminal", async () => {
  const bytes = Buffer.from(Array.from({ length: 256 }, (_, i) => i));
  const session = await begin("stty raw -echo; echo -n ready; head -c 256 | od -An -v -tu1 -w256");
  await readUntil(session, "ready");
  session.send("stdin", {}, bytes);
  const { stdout } = await readToEnd(session);
  expect(stdout.toString().trim().split(/\s+/).map(Number)).toEqual([...bytes]);
  session.close();
});

test("a shell on it has job control", async () => {
  const session = await openSession(agent);
  sendExec(session, { argv: ["/bin/bash", "--norc", "-i"], ...TERMINAL, env: { PS1: "$ ", HISTFILE: "" } });
  // What is typed is echoed too, so the command says something else.
  session.send("stdin", {}, "sh -c 'echo u\"\"p; exec sleep 1000'\n");
  await readUntil(session, "up\r\n");
  session.send("stdin", {}, "\u001a");
  await readUntil(session, "Stopped");
  // bash refuses the first exit if it doesn't know yet that the job has ended, but not a second one.
  session.send("stdin", {}, "kill %1; exit 4\nexit 4\n");
  expect((await readToEnd(session)).last?.fields["status"]).toBe(4);
  session.close();
});
