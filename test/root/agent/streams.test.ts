/** The streams of a command: every byte, in both directions, as fast as the slower side. On the sanitizer build. */

import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { createHash, randomBytes } from "node:crypto";
import { existsSync, mkdtempSync, rmSync, statSync } from "node:fs";
import { join } from "node:path";
import { AGENT_ERRORS, AGENT_LIMITS, EXITED_FLAGS } from "../../../src/shared/agent/protocol.ts";
import {
  type Command,
  feed,
  isAlive,
  openSession,
  parentOf,
  readToEnd,
  runCommand,
  sendExec,
  startAgent,
  type TestAgent,
  waitUntil,
  waitUntilAsleep,
} from "../../support/agent.ts";

if (process.env["BANGER_TEST_ROOT"] !== "1") throw new Error("these tests run in namespaces: bun test/root/run.ts");

const MIB = 1024 * 1024;
/** `BANGER_STREAM_MIB=1024` for the long run. */
const STREAM_MIB = Number(process.env["BANGER_STREAM_MIB"] ?? 64);

setDefaultTimeout(120_000);

let agent: TestAgent;
let directory: string;
beforeAll(async () => {
  directory = mkdtempSync("/tmp/banger-agent-streams-");
  agent = await startAgent();
});
afterAll(async () => {
  rmSync(directory, { recursive: true, force: true });
  await agent[Symbol.asyncDispose]();
});

test(
  `${STREAM_MIB} MiB go in and come out as they were`,
  async () => {
    const block = randomBytes(MIB);
    const sent = createHash("sha256");
    for (let i = 0; i < STREAM_MIB; i++) sent.update(block);
    const input = Buffer.concat(Array.from({ length: STREAM_MIB }, () => block));
    const session = await openSession(agent);
    sendExec(session, { argv: ["cat"] });
    const received = createHash("sha256");
    let bytes = 0;
    const last = await feed(session, input, (chunk) => {
      received.update(chunk);
      bytes += chunk.length;
    });
    session.close();
    expect(last).toMatchObject({ name: "exited", fields: { status: 0, flags: 0 } });
    expect(bytes).toBe(input.length);
    expect(received.digest("hex")).toBe(sent.digest("hex"));
  },
  20 * 60_000,
);

test("stdout and stderr are kept apart", async () => {
  const script = "i=0; while [ $i -lt 1000 ]; do echo out $i; echo err $i >&2; i=$((i+1)); done";
  const { stdout, stderr } = await runCommand(agent, { argv: ["/bin/sh", "-c", script] });
  const lines = (word: string): string => Array.from({ length: 1000 }, (_, i) => `${word} ${i}\n`).join("");
  expect(stdout.toString()).toBe(lines("out"));
  expect(stderr.toString()).toBe(lines("err"));
});

describe("stdin", () => {
  test("has a window: what a command doesn't read is taken up to it, and not one byte more", async () => {
    const session = await openSession(agent);
    sendExec(session, { argv: ["sleep", "1000"] });
    const pid = Number((await session.expect("started")).fields["pid"]);
    let sent = 0;
    let credited = 0;
    const last = (async () => {
      for (;;) {
        const frame = await session.next();
        if (frame?.name !== "credit") return frame;
        credited += Number(frame.fields["bytes"]);
      }
    })();
    // The command's pipe takes some first, and its credit is sent again.
    for (let seen = -1; seen !== credited; await waitUntilAsleep(parentOf(pid))) {
      seen = credited;
      for (let room; (room = AGENT_LIMITS.stdinWindowBytes + credited - sent) > 0;) {
        const length = Math.min(room, AGENT_LIMITS.payloadBytes);
        session.send("stdin", {}, Buffer.alloc(length));
        sent += length;
      }
    }
    session.send("stdin", {}, "x");
    const refusal = await last;
    expect(refusal).toMatchObject({ name: "error", fields: { code: AGENT_ERRORS.protocol } });
    expect(refusal?.bytes.toString()).toBe("stdin beyond its window");
    await waitUntil("the command has ended", () => !isAlive(pid));
    session.close();
  });

  test("that nobody reads any more is credited, so that the host can go on", async () => {
    const session = await openSession(agent);
    sendExec(session, { argv: ["/bin/sh", "-c", "exec 0<&-; echo closed; exec sleep 0.3"] });
    await session.expect("started");
    expect((await session.expect("stdout")).bytes.toString()).toBe("closed\n");
    const last = await feed(session, Buffer.alloc(2 * MIB), () => undefined);
    expect(last).toMatchObject({ name: "exited", fields: { status: 0 } });
    session.close();
  });

  test("ends once, and then takes nothing", async () => {
    const session = await openSession(agent);
    sendExec(session, { argv: ["sleep", "1000"] });
    session.send("stdinEnd");
    session.send("stdin", {}, "x");
    expect((await readToEnd(session)).last?.bytes.toString()).toBe("stdin after its end");
    session.close();
  });
});

test("a host that reads slowly stops the command, and nothing grows", async () => {
  const counter = join(directory, "counter");
  // One byte for each piece: a number would be missing for a moment while it is replaced.
  const script = `while :; do printf . >> ${counter}; head -c 65536 /dev/zero; done`;
  const session = await openSession(agent);
  sendExec(session, { argv: ["/bin/sh", "-c", script] });
  const pid = Number((await session.expect("started")).fields["pid"]);
  const written = (): number => (existsSync(counter) ? statSync(counter).size : 0);
  // A writer that isn't blocked is seen to go on.
  let seen = 0;
  let times = 0;
  await waitUntil("the command's writer is blocked", () => {
    const now = written();
    times = now === seen ? times + 1 : 0;
    seen = now;
    return now > 0 && times >= 50;
  });
  // The agent's buffer, the pipe, and what the sockets and this side hold: far less than what would come meanwhile.
  expect(written()).toBeLessThan(32);
  await waitUntilAsleep(parentOf(pid));
  for (let bytes = 0; bytes < 64 * MIB;) bytes += (await session.expect("stdout")).bytes.length;
  expect(written()).toBeGreaterThan(1000);
  session.close();
  await waitUntil("the command has ended", () => !isAlive(pid));
});

describe("a session sleeps", () => {
  test.each([
    ["while its command does", "exec sleep 1000", {}],
    ["while nobody reads what the host sent", "exec sleep 1000", { input: 200_000 }],
    ["while its command has closed everything", "exec sleep 1000 <&- >&- 2>&-", { input: 10 }],
    ["while others hold the output", "sleep 1000 & exit 0", { flags: ["waitOutput"] as const }],
    ["with a terminal", "exec sleep 1000", { flags: ["terminal"] as const }],
  ])("%s", async (_, script, { input = 0, flags = [] }: { input?: number; flags?: Command["flags"] }) => {
    const session = await openSession(agent);
    sendExec(session, { argv: ["/bin/sh", "-c", `echo $PPID; ${script}`], flags });
    for (let left = input; left > 0; left -= AGENT_LIMITS.payloadBytes)
      session.send("stdin", {}, Buffer.alloc(Math.min(left, AGENT_LIMITS.payloadBytes)));
    let frame = await session.next();
    while (frame?.name !== "stdout") frame = await session.next();
    const parent = Number(frame.bytes.toString());
    await waitUntilAsleep(parent);
    session.close();
    await waitUntil("it has ended", () => !isAlive(parent));
  });

  test("while a kept command goes on without its host", async () => {
    const session = await openSession(agent);
    sendExec(session, { argv: ["sleep", "1000"], flags: ["keep"] });
    const pid = Number((await session.expect("started")).fields["pid"]);
    const parent = parentOf(pid);
    session.close();
    await waitUntilAsleep(parent);
    expect(isAlive(pid)).toBe(true);
    process.kill(pid, "SIGKILL");
    await waitUntil("it has ended", () => !isAlive(parent));
  });
});

describe("the end of the output", () => {
  test("is waited for while the command has left some, even if it takes longer", async () => {
    const session = await openSession(agent);
    // All of it fits into the pipe and the agent's buffer.
    sendExec(session, { argv: ["/bin/sh", "-c", "head -c 300000 /dev/zero"] });
    const pid = Number((await session.expect("started")).fields["pid"]);
    await waitUntil("the command has ended", () => !isAlive(pid));
    const { stdout, last } = await readToEnd(session);
    expect([stdout.length, last?.fields["flags"]]).toEqual([300_000, 0]);
    session.close();
  });

  test("comes soon after the command's, if others hold it", async () => {
    const { last, stdout } = await runCommand(agent, { argv: ["/bin/sh", "-c", "sleep 1000 & echo $!"] });
    const pid = Number(stdout.toString());
    expect(last).toMatchObject({ name: "exited", fields: { status: 0, flags: EXITED_FLAGS.outputHeld } });
    expect(isAlive(pid)).toBe(true);
    process.kill(pid, "SIGKILL");
  });

  test("comes even if others go on writing", async () => {
    const { last, stdout } = await runCommand(agent, { argv: ["/bin/sh", "-c", "yes & echo $!"] });
    const pid = Number(/\d+/.exec(stdout.toString())?.[0]);
    expect(last).toMatchObject({ name: "exited", fields: { status: 0, flags: EXITED_FLAGS.outputHeld } });
    // Its pipe has no reader any more.
    await waitUntil("the writer has ended", () => !isAlive(pid));
  });

  test("is waited for with waitOutput", async () => {
    const argv = ["/bin/sh", "-c", "(sleep 1; echo late) & echo early; exit 3"];
    const { last, stdout } = await runCommand(agent, { argv, flags: ["waitOutput"] });
    expect([stdout.toString(), last?.fields["status"], last?.fields["flags"]]).toEqual(["early\nlate\n", 3, 0]);
  });
});
