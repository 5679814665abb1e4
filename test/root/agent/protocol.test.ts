/** The handshake, every frame in and out of its place, and the short requests. On the sanitizer build. */

import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { randomBytes } from "node:crypto";
import { copyFileSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import {
  AGENT_ERRORS,
  AGENT_LIMITS,
  AGENT_PROTOCOL,
  FRAMES,
  type FrameName,
  type FrameShape,
  HEADER_BYTES,
  NONCE_BYTES,
  POWER_KINDS,
} from "../../../src/shared/agent/protocol.ts";
import { encodeFrame, encodeHeader } from "../../support/agent-frames.ts";
import {
  connect,
  encodeHello,
  isAlive,
  openSession,
  parentOf,
  readToEnd,
  runCommand,
  sendExec,
  Session,
  startAgent,
  type TestAgent,
  waitUntil,
  waitUntilAsleep,
} from "../../support/agent.ts";

if (process.env["BANGER_TEST_ROOT"] !== "1") throw new Error("these tests run in namespaces: bun test/root/run.ts");

setDefaultTimeout(120_000);

const FILLER = Buffer.alloc(AGENT_LIMITS.payloadBytes + HEADER_BYTES);

const V2 = existsSync("/sys/fs/cgroup/cgroup.procs") ? "/sys/fs/cgroup" : "/sys/fs/cgroup/unified";
const CGROUPS = join(V2, "banger");

let agent: TestAgent;
let directory: string;
beforeAll(async () => {
  directory = mkdtempSync("/tmp/banger-agent-protocol-");
  agent = await startAgent();
});
afterAll(async () => {
  rmSync(directory, { recursive: true, force: true });
  await agent[Symbol.asyncDispose]();
});

/** Sends bytes to a fresh session. Returns the text of the agent's refusal. */
async function refusalOf(...parts: readonly Uint8Array[]): Promise<string> {
  const session = await openSession(agent);
  for (const part of parts) session.write(part);
  const { last, others } = await readToEnd(session);
  session.close();
  expect(others.filter((name) => name !== "started")).toEqual([]);
  expect(last).toMatchObject({ name: "error", fields: { code: AGENT_ERRORS.protocol, errno: 0 } });
  return last?.bytes.toString() ?? "";
}

describe("the handshake", () => {
  test("finds a hello in anything, cut anywhere", async () => {
    const hello = encodeHello(randomBytes(NONCE_BYTES));
    const session = new Session(await connect(agent.socket));
    session.write(Buffer.concat([randomBytes(5000), Buffer.alloc(3), hello.subarray(0, 7), hello.subarray(0, 1)]));
    for (const byte of hello) session.write(Buffer.from([byte]));
    const answer = await session.take(hello.length);
    expect(answer.subarray(16)).toEqual(hello.subarray(16));
    session.send("usage");
    expect((await readToEnd(session)).last?.name).toBe("done");
    session.close();
  });

  test("answers another version with its own, and ends", async () => {
    const session = new Session(await connect(agent.socket));
    expect(await session.greet(AGENT_PROTOCOL + 1)).toBe(AGENT_PROTOCOL);
    expect(await session.next()).toBeNull();
    session.close();
  });
});

describe("a port, on which hosts follow each other", () => {
  const onPort = async (work: (session: Session) => Promise<void>): Promise<void> => {
    await using port = await startAgent({ mode: "port" });
    const session = new Session(await connect(port.socket));
    await work(session);
    session.close();
  };

  test("serves one session after the other", async () => {
    await onPort(async (session) => {
      for (let i = 0; i < 20; i++) {
        await session.greet();
        sendExec(session, { argv: ["echo", String(i)], flags: ["noStdin"] });
        const { stdout, last } = await readToEnd(session);
        expect([stdout.toString(), last?.name]).toEqual([`${i}\n`, "exited"]);
      }
    });
  });

  test("is free at once when a host begins anew, in whatever frame the last one stopped", async () => {
    await onPort(async (session) => {
      await session.greet();
      sendExec(session, { argv: ["/bin/sh", "-c", "trap '' HUP TERM; echo up; while :; do sleep 0.1; done"] });
      const pid = Number((await session.expect("started")).fields["pid"]);
      await session.expect("stdout");
      session.write(encodeFrame("stdin", {}, randomBytes(1000)).subarray(0, 500));
      // As a host that got no answer does it, and again with another hello: only the last one counts.
      session.write(FILLER);
      session.write(encodeHello(randomBytes(NONCE_BYTES)));
      session.write(FILLER);
      await session.greet();
      expect(isAlive(pid)).toBe(true);
      session.send("usage");
      expect((await readToEnd(session)).last?.name).toBe("done");
      await waitUntil("the first host's command has ended", () => !isAlive(pid));
    });
  });

  test("survives a session that was killed", async () => {
    await onPort(async (session) => {
      await session.greet();
      sendExec(session, { argv: ["sleep", "1000"], flags: ["noStdin"] });
      const pid = Number((await session.expect("started")).fields["pid"]);
      process.kill(parentOf(pid), "SIGKILL");
      await session.greet();
      session.send("usage");
      expect((await readToEnd(session)).last?.name).toBe("done");
      if (existsSync(CGROUPS)) await waitUntil("what it left is killed too", () => !isAlive(pid));
      else process.kill(pid, "SIGKILL");
    });
  });

  test("costs nothing while its host is gone", async () => {
    await using port = await startAgent({ mode: "port" });
    await waitUntilAsleep(port.pid);
    const session = new Session(await connect(port.socket));
    await session.greet();
    session.close();
    await waitUntilAsleep(port.pid);
  });

  test("ignores what isn't a hello", async () => {
    await onPort(async (session) => {
      for (let i = 0; i < 50; i++) session.write(randomBytes(10_000));
      await session.greet();
      session.send("usage");
      expect((await readToEnd(session)).last?.name).toBe("done");
    });
  });
});

describe("a frame that can't be", () => {
  const shapes = Object.entries<FrameShape>(FRAMES);
  const sizeOf = (name: FrameName): number => encodeFrame(name).length - HEADER_BYTES;

  test.each(shapes.filter(([, { to }]) => to === "host"))("%s, which only the agent sends", async (name) => {
    expect(await refusalOf(encodeFrame(name as FrameName))).toBe("unknown frame");
  });

  test("a type that doesn't exist", async () => {
    for (const type of [15, 100, 127, 138, 255]) expect(await refusalOf(encodeHeader(0, type))).toBe("unknown frame");
  });

  test.each(shapes.filter(([, { to }]) => to === "guest"))("%s with another length", async (name, { bytes, type }) => {
    const right = sizeOf(name as FrameName);
    const wrong = bytes
      ? [AGENT_LIMITS.payloadBytes + 1, 0xffff_ffff]
      : [right + 1, AGENT_LIMITS.payloadBytes, 0xffff_ffff];
    if (right > 0) wrong.push(right - 1, 0);
    for (const length of wrong) expect(await refusalOf(encodeHeader(length, type))).toBe("unknown frame");
  });
});

describe("a frame out of its place", () => {
  const argument = encodeFrame("argument", {}, Buffer.from(`sleep\0${1000}\0`));
  const exec = encodeFrame("exec");

  test("before a command", async () => {
    for (const name of ["stdin", "stdinEnd", "resize", "signal"] as const)
      expect(await refusalOf(encodeFrame(name))).toBe("there is no running command");
  });

  test("after a command's description", async () => {
    for (const name of ["waitReady", "clock", "power", "usage", "listeners", "stdin"] as const)
      expect(await refusalOf(argument, encodeFrame(name))).toBe("only exec takes arguments");
  });

  test("while a command runs", async () => {
    for (const name of ["exec", "argument", "variable", "directory", "user", "waitReady", "clock", "usage"] as const)
      expect(await refusalOf(argument, exec, encodeFrame(name))).toBe("the command runs already");
    expect(await refusalOf(argument, exec, encodeFrame("resize"))).toBe("the command has no terminal");
    expect(await refusalOf(argument, exec, encodeFrame("signal", { number: 0 }))).toBe("there is no such signal");
    expect(await refusalOf(argument, exec, encodeFrame("signal", { number: 65 }))).toBe("there is no such signal");
  });

  test("a command without sense", async () => {
    expect(await refusalOf(exec)).toBe("there is no command");
    expect(await refusalOf(encodeFrame("argument", {}, Buffer.from("true")), exec)).toBe(
      "the last argument has no end",
    );
    expect(await refusalOf(argument, encodeFrame("exec", { flags: 32 }))).toBe("exec has an unknown flag");
    for (const variable of ["=x\0", "x\0", "\0"])
      expect(await refusalOf(argument, encodeFrame("variable", {}, Buffer.from(variable)), exec)).toBe(
        "a variable has no name",
      );
    expect(await refusalOf(argument, encodeFrame("variable", {}, Buffer.from("A=b")), exec)).toBe(
      "the last variable has no end",
    );
    for (const name of ["user", "directory"] as const) {
      const wrong = `the ${name}'s name is too long, empty, or given twice`;
      expect(await refusalOf(encodeFrame(name))).toBe(wrong);
      expect(await refusalOf(encodeFrame(name, {}, Buffer.from("a\0b")))).toBe(wrong);
      expect(await refusalOf(encodeFrame(name, {}, Buffer.alloc(AGENT_LIMITS[`${name}Bytes`] + 1, "a")))).toBe(wrong);
      const once = encodeFrame(name, {}, Buffer.from("/"));
      expect(await refusalOf(once, once)).toBe(wrong);
    }
  });

  test("more than fits", async () => {
    const full = encodeFrame("variable", {}, Buffer.alloc(AGENT_LIMITS.payloadBytes, "x"));
    const count = AGENT_LIMITS.variablesBytes / AGENT_LIMITS.payloadBytes;
    const most = Array.from({ length: count }, () => full);
    expect(await refusalOf(...most, encodeFrame("variable", {}, Buffer.from("x")))).toBe("the variables are too long");
  });

  test("ends the command", async () => {
    const session = await openSession(agent);
    sendExec(session, { argv: ["sleep", "1000"], flags: ["keep"] });
    const pid = Number((await session.expect("started")).fields["pid"]);
    session.send("usage");
    expect((await readToEnd(session)).last?.name).toBe("error");
    await waitUntil("the command has ended", () => !isAlive(pid));
    session.close();
  });
});

async function ask(...parts: Parameters<Session["send"]>): ReturnType<typeof readToEnd> {
  const session = await openSession(agent);
  session.send(...parts);
  const ran = await readToEnd(session);
  session.close();
  return ran;
}

test("waitReady says which boot it is", async () => {
  const { last } = await ask("waitReady");
  expect(last).toMatchObject({ name: "ready", fields: { flags: 0 } });
  expect(last?.bytes.toString()).toBe(readFileSync("/proc/sys/kernel/random/boot_id", "utf8").trim());
});

test("usage counts all interfaces but loopback", async () => {
  const run = (...argv: readonly string[]): void => expect(Bun.spawnSync([...argv]).exitCode).toBe(0);
  const read = async (): Promise<readonly [bigint, bigint]> => {
    const session = await openSession(agent);
    session.send("usage");
    const { fields } = await session.expect("counters");
    await session.expect("done");
    session.close();
    return [BigInt(fields["rxBytes"] ?? -1), BigInt(fields["txBytes"] ?? -1)];
  };
  run("ip", "link", "set", "lo", "up");
  run("ip", "link", "add", "agent0", "type", "veth", "peer", "name", "agent1");
  run("ip", "addr", "add", "10.99.7.1/24", "dev", "agent0");
  run("ip", "link", "set", "agent1", "up");
  run("ip", "link", "set", "agent0", "up");
  const [, before] = await read();
  const to = (address: string): Promise<unknown> =>
    runCommand(agent, { argv: ["bash", "-c", `printf %01000d 0 > /dev/udp/${address}/9`] });
  await to("127.0.0.1");
  const [, afterLoopback] = await read();
  expect(Number(afterLoopback - before)).toBeLessThan(1000);
  run("ip", "neigh", "add", "10.99.7.2", "lladdr", "02:00:00:00:00:01", "dev", "agent0");
  await to("10.99.7.2");
  const [, after] = await read();
  expect(Number(after - afterLoopback)).toBeGreaterThanOrEqual(1000);
  run("ip", "link", "del", "agent0");
});

test("listeners are each port once, with the name of who listens", async () => {
  Bun.spawnSync(["ip", "link", "set", "lo", "up"]);
  using four = Bun.listen({ hostname: "127.0.0.1", port: 0, socket: { data: () => undefined } });
  using six = Bun.listen({ hostname: "::1", port: 0, socket: { data: () => undefined } });
  const session = await openSession(agent);
  session.send("listeners");
  const found = new Map<number, string>();
  for (;;) {
    const frame = await session.next();
    if (frame?.name !== "listener") {
      expect(frame?.name).toBe("done");
      break;
    }
    expect(found.has(Number(frame.fields["port"]))).toBe(false);
    found.set(Number(frame.fields["port"]), frame.bytes.toString());
  }
  session.close();
  const name = readFileSync("/proc/self/comm", "utf8").trim();
  expect([found.get(four.port), found.get(six.port), found.size]).toEqual([name, name, 2]);
});

test("the clock can't be set by a build for tests, and says so", async () => {
  const { last } = await ask("clock", { seconds: 4_000_000_000n, nanoseconds: 0 });
  expect(last).toMatchObject({ name: "error", fields: { code: AGENT_ERRORS.system, errno: 1 } });
  expect(last?.bytes.toString()).toBe("clock_settime: Operation not permitted");
});

describe("power", () => {
  test("of an unknown kind, or of this machine, is refused", async () => {
    expect(await refusalOf(encodeFrame("power", { kind: 3 }))).toBe("there is no such kind of power");
    const { last } = await ask("power", { kind: POWER_KINDS.poweroff });
    expect(last).toMatchObject({ name: "error", fields: { code: AGENT_ERRORS.system, errno: 1 } });
  });

  test.each([
    ["systemd", POWER_KINDS.poweroff, "RTMIN+4"],
    ["systemd", POWER_KINDS.reboot, "RTMIN+5"],
    ["busybox", POWER_KINDS.poweroff, "USR2"],
    ["busybox", POWER_KINDS.reboot, "TERM"],
  ] as const)("asks %s for %d by its signal", async (init, kind, signal) => {
    // The first process of a process namespace, by the name of that init.
    const own = join(directory, `${init}-${kind}`);
    mkdirSync(own);
    const program = join(own, init);
    const said = join(own, "said");
    copyFileSync("/bin/bash", program);
    writeFileSync(
      join(own, "init.sh"),
      `for s in RTMIN+4 RTMIN+5 USR2 TERM INT PWR USR1; do trap "echo $s >> ${said}" $s; done
       "$@" & while :; do wait; done`,
    );
    const prefix = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc", program, join(own, "init.sh")];
    await using guest = await startAgent({ prefix, env: { BANGER_TEST_POWER: "1" } });
    const session = await openSession(guest);
    session.send("power", { kind });
    expect((await readToEnd(session)).last?.name).toBe("done");
    session.close();
    await waitUntil("init got its signal", () => existsSync(said) && readFileSync(said, "utf8").endsWith("\n"));
    expect(readFileSync(said, "utf8")).toBe(`${signal}\n`);
  });
});
