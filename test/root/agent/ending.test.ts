/** How commands end before they want to: signals, timeouts, a host that is gone. Nothing of them stays. On the sanitizer build. */

import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { existsSync, mkdtempSync, rmSync } from "node:fs";
import { join } from "node:path";
import { EXITED_FLAGS } from "../../../src/shared/agent/protocol.ts";
import {
  type Command,
  isAlive,
  openSession,
  readToEnd,
  sendExec,
  type Session,
  startAgent,
  type TestAgent,
  waitUntil,
} from "../../support/agent.ts";

if (process.env["BANGER_TEST_ROOT"] !== "1") throw new Error("these tests run in namespaces: bun test/root/run.ts");

setDefaultTimeout(120_000);

let agent: TestAgent;
let directory: string;
beforeAll(async () => {
  directory = mkdtempSync("/tmp/banger-agent-ending-");
  agent = await startAgent();
});
afterAll(async () => {
  rmSync(directory, { recursive: true, force: true });
  await agent[Symbol.asyncDispose]();
});

const STUBBORN = "trap '' HUP INT TERM;";
const CGROUPS = existsSync("/sys/fs/cgroup/cgroup.procs") ? "/sys/fs/cgroup" : "/sys/fs/cgroup/unified";

/** Ways in which a process gets away from its parent. Each script's last line of output is the process's number. */
const ESCAPES: Readonly<Record<string, string>> = {
  "a background process": "sleep 1000 & echo $!; wait",
  "one with a session of its own": "setsid sleep 1000 & echo $!; wait",
  "a daemon, whose parents are gone": "(setsid sh -c 'sleep 1000 & echo $!' &); sleep 1000",
  "one that ignores what it can": `${STUBBORN} setsid sh -c '${STUBBORN.replaceAll("'", `"`)} echo $$; while :; do sleep 1; done' & wait`,
  "one in another cgroup": `setsid sh -c 'echo $$ > ${CGROUPS}/cgroup.procs; echo $$; sleep 1000' & wait`,
  "one that is stopped": "setsid sleep 1000 & kill -STOP $!; echo $!; wait",
};

async function begin(script: string, more: Partial<Command> = {}): Promise<{ session: Session; pid: number }> {
  const session = await openSession(agent);
  sendExec(session, { argv: ["/bin/sh", "-c", script], ...more });
  const pid = Number((await session.expect("started")).fields["pid"]);
  return { session, pid };
}

async function readNumber(session: Session): Promise<number> {
  let text = "";
  while (!text.includes("\n")) text += (await session.expect("stdout")).bytes.toString();
  return Number(text);
}

describe("a host that is gone takes everything with it", () => {
  test.each(Object.entries(ESCAPES))("%s", async (_, script) => {
    const { session, pid } = await begin(script);
    const escaped = await readNumber(session);
    expect([isAlive(pid), isAlive(escaped)]).toEqual([true, true]);
    session.close();
    await waitUntil("the command and what it started have ended", () => !isAlive(pid) && !isAlive(escaped));
  });

  test("but what may tidy up is asked first", async () => {
    const file = join(directory, "tidied");
    const { session, pid } = await begin(
      `trap 'echo HUP >> ${file}' HUP; trap 'echo TERM >> ${file}; exit' TERM; echo 1; while :; do sleep 0.05; done`,
    );
    await readNumber(session);
    session.close();
    await waitUntil("the command has ended", () => !isAlive(pid));
    expect(await Bun.file(file).text()).toBe("HUP\nTERM\n");
  });

  test("with its terminal", async () => {
    const { session, pid } = await begin("setsid sleep 1000 & echo $!; cat", { flags: ["terminal"] });
    const escaped = await readNumber(session);
    session.close();
    await waitUntil("both have ended", () => !isAlive(pid) && !isAlive(escaped));
  });

  test("before it read anything", async () => {
    const { session, pid } = await begin("yes");
    session.close();
    await waitUntil("the command has ended", () => !isAlive(pid));
  });

  test("a zero type is the same", async () => {
    const { session, pid } = await begin("sleep 1000");
    session.write(Buffer.alloc(65_536 + 5));
    await waitUntil("the command has ended", () => !isAlive(pid));
    session.close();
  });
});

test("with keep, a command goes on without its host, and without a reader of its output", async () => {
  const file = join(directory, "kept");
  const { session, pid } = await begin(`head -c 3000000 /dev/zero; cat; echo done > ${file}; exec sleep 1000`, {
    flags: ["keep"],
  });
  session.close();
  await waitUntil("the command has gone on", () => existsSync(file));
  expect(isAlive(pid)).toBe(true);
  process.kill(pid, "SIGKILL");
});

describe("signals", () => {
  test.each([1, 2, 3, 10, 12, 15])("signal %d goes to the process group", async (number) => {
    const script = `trap 'echo shell; exit 3' ${number}; sh -c 'trap "echo child; exit" ${number}; echo up; while :; do sleep 0.05; done'`;
    const { session } = await begin(script);
    while (!(await session.expect("stdout")).bytes.includes("up"));
    session.send("signal", { number });
    const { stdout, last } = await readToEnd(session);
    expect(stdout.toString().trim().split("\n").toSorted()).toEqual(["child", "shell"]);
    expect(last?.fields["status"]).toBe(3);
    session.close();
  });

  test.each(Object.entries(ESCAPES))("KILL goes to everything: %s", async (_, script) => {
    const { session, pid } = await begin(script);
    const escaped = await readNumber(session);
    session.send("signal", { number: 9 });
    const { last } = await readToEnd(session);
    expect(last).toMatchObject({ name: "exited", fields: { status: 137, signal: 9 } });
    await waitUntil("both have ended", () => !isAlive(pid) && !isAlive(escaped));
    session.close();
  });

  test("stop and continue", async () => {
    const { session, pid } = await begin("echo 1; exec sleep 1000");
    await readNumber(session);
    // A shell that waits for a child of vfork(2), which is stopped before it is another program, isn't seen as stopped.
    await waitUntil("the shell is gone", async () =>
      (await Bun.file(`/proc/${pid}/cmdline`).text()).startsWith("sleep"),
    );
    const state = async (): Promise<string> => /\) (\w)/.exec(await Bun.file(`/proc/${pid}/stat`).text())?.[1] ?? "";
    session.send("signal", { number: 19 });
    await waitUntil("the command is stopped", async () => (await state()) === "T");
    session.send("signal", { number: 18 });
    await waitUntil("the command goes on", async () => (await state()) !== "T");
    session.close();
    await waitUntil("the command has ended", () => !isAlive(pid));
  });
});

describe("a timeout", () => {
  test("sends TERM", async () => {
    const { session } = await begin("exec sleep 1000", { timeoutMs: 100, killAfterMs: 60_000 });
    const { last } = await readToEnd(session);
    expect(last).toMatchObject({ name: "exited", fields: { status: 143, signal: 15, flags: EXITED_FLAGS.timedOut } });
    session.close();
  });

  test("then KILL", async () => {
    const { session } = await begin(`${STUBBORN} echo 1; while :; do sleep 0.1; done`, {
      timeoutMs: 100,
      killAfterMs: 100,
    });
    const { last } = await readToEnd(session);
    expect(last).toMatchObject({ name: "exited", fields: { status: 137, signal: 9, flags: EXITED_FLAGS.timedOut } });
    session.close();
  });

  test.each(Object.entries(ESCAPES))(
    "to everything, and the last word comes when all is gone: %s",
    async (_, script) => {
      const { session } = await begin(script, { timeoutMs: 1000, killAfterMs: 300 });
      const escaped = await readNumber(session);
      const { last } = await readToEnd(session);
      expect(Number(last?.fields["flags"]) & EXITED_FLAGS.timedOut).toBe(EXITED_FLAGS.timedOut);
      expect(isAlive(escaped)).toBe(false);
      session.close();
    },
  );

  test("doesn't touch a command that ends before it", async () => {
    const { session } = await begin("exit 6", { timeoutMs: 60_000, killAfterMs: 1 });
    expect((await readToEnd(session)).last).toMatchObject({ name: "exited", fields: { status: 6, flags: 0 } });
    session.close();
  });

  test("doesn't touch what a command left behind, while its output is still waited for", async () => {
    // On a busy machine the limit may come before the command's end; then it is another case.
    for (let status: unknown = null; status !== 6;) {
      const { session } = await begin("sleep 1000 & echo $!; exit 6", { timeoutMs: 300, killAfterMs: 1 });
      const left = await readNumber(session);
      const { last } = await readToEnd(session);
      status = last?.fields["status"];
      if (status === 6) {
        expect(last?.fields["flags"]).toBe(EXITED_FLAGS.outputHeld);
        expect(isAlive(left)).toBe(true);
        process.kill(left, "SIGKILL");
      }
      session.close();
    }
  });

  test("ends a wait for output that others hold", async () => {
    const { session } = await begin("sleep 1000 & echo $!", {
      timeoutMs: 300,
      killAfterMs: 100,
      flags: ["waitOutput"],
    });
    const escaped = await readNumber(session);
    const { last } = await readToEnd(session);
    expect(last).toMatchObject({ name: "exited", fields: { status: 0, flags: EXITED_FLAGS.timedOut } });
    expect(isAlive(escaped)).toBe(false);
    session.close();
  });
});
