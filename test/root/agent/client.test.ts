/** The client against the agent itself, built with sanitizers, over stand-ins for both ways in. */

import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { openAgentChannel } from "../../../src/shared/agent/channel.ts";
import { powerOff, readListeners, readUsage, runInGuest, setClock } from "../../../src/shared/agent/client.ts";
import { type AgentExec, startExec } from "../../../src/shared/agent/exec.ts";
import { encodeFrame } from "../../../src/shared/agent/frames.ts";
import { AGENT_LIMITS, HEADER_BYTES } from "../../../src/shared/agent/protocol.ts";
import { agentSocketPath } from "../../../src/shared/agent/serial-port.ts";
import { connectUnix } from "../../../src/shared/streams/wire.ts";
import { type AgentHost, hostOverSerial, hostOverVsock } from "../../support/agent-host.ts";

const PATIENCE = { timeoutMs: 20_000 };
const LIMITS = { ...PATIENCE, outputLimitBytes: 64 * 1024 * 1024 };
const sh = (script: string): AgentExec => ({ argv: ["sh", "-c", script], env: [] });

let vsock: Awaited<ReturnType<typeof hostOverVsock>>;
let serial: Awaited<ReturnType<typeof hostOverSerial>>;
beforeAll(async () => {
  // Compiled once for both.
  vsock = await hostOverVsock();
  serial = await hostOverSerial();
});
afterAll(async () => {
  await vsock[Symbol.asyncDispose]();
  await serial[Symbol.asyncDispose]();
});

describe.each(["vsock", "serial"] as const)("over %s", (kind) => {
  let host: AgentHost;
  beforeAll(() => {
    host = kind === "vsock" ? vsock : serial;
  });

  test("a command's output, status, and times come back", async () => {
    const { exit, stdout, stderr } = await runInGuest(host.place, sh("echo out; echo err >&2; exit 7"), LIMITS);
    expect([stdout.toString(), stderr.toString(), exit.status, exit.signal]).toEqual(["out\n", "err\n", 7, 0]);
    expect(exit.wallMicroseconds).toBeGreaterThan(0);
    expect(exit.peakKib).toBeGreaterThan(0);
    const killed = await runInGuest(host.place, sh("kill -9 $$"), LIMITS);
    expect(killed.exit).toMatchObject({ status: 137, signal: 9, timedOut: false });
  });

  test("a session that is killed in the guest is over here too, and the next one is served", async () => {
    await using channel = await openAgentChannel(host.place, PATIENCE);
    const sinks = { stdout: () => undefined, stderr: () => undefined };
    // It may be gone before it said that the command runs.
    const end = startExec(channel, sh("kill -9 $PPID"), sinks).then(async ({ exited }) => await exited);
    await expect(end).rejects.toMatchObject({ code: "EXEC_FAILED" });
    const { stdout } = await runInGuest(host.place, sh("echo next"), LIMITS);
    expect(stdout.toString()).toBe("next\n");
  });

  test("arguments, variables and the directory arrive byte for byte", async () => {
    const argument = new Uint8Array([0xff, 0x27, 0x0a, 0x20]);
    const long = "x".repeat(100_000);
    const { stdout } = await runInGuest(
      host.place,
      {
        argv: ["sh", "-c", 'printf "%s|" "$@" "$V" "$PWD"', "sh", argument, "", long],
        env: [["V", "a=b c\n"]],
        directory: "/usr/lib",
      },
      LIMITS,
    );
    expect(stdout).toEqual(Buffer.concat([Buffer.from(argument), Buffer.from(`||${long}|a=b c\n|/usr/lib|`)]));
  });

  test("megabytes go in and come out unchanged, by the window and by what the sink takes", async () => {
    const stdin = Buffer.from(crypto.getRandomValues(new Uint8Array(65_536)));
    const all = Buffer.concat(Array.from({ length: 160 }, () => stdin));
    const { exit, stdout } = await runInGuest(host.place, { argv: ["cat"], env: [], stdin: all }, LIMITS);
    expect(exit.status).toBe(0);
    expect(stdout.equals(all)).toBe(true);
  });

  test("input that the command doesn't want holds nothing up", async () => {
    for (let i = 0; i < 20; i++) {
      const stdin = Buffer.alloc(1_000_000);
      const { exit, stdout } = await runInGuest(host.place, { ...sh("echo enough; exit 3"), stdin }, LIMITS);
      expect([exit.status, stdout.toString()]).toEqual([3, "enough\n"]);
    }
  });

  test.each<[string, AgentExec, string]>([
    ["no such command", { argv: ["/nonexistent/command"], env: [] }, "notFound"],
    ["no such directory", { argv: ["true"], env: [], directory: "/nonexistent" }, "directory"],
    ["no such user", { argv: ["true"], env: [], user: "nobody-has-this-name" }, "user"],
    ["not executable", { argv: ["/etc/passwd"], env: [] }, "notExecutable"],
  ])("%s", async (_name, exec, reason) => {
    await expect(runInGuest(host.place, exec, LIMITS)).rejects.toMatchObject({ code: "EXEC_FAILED", reason });
  });

  test("a terminal has its size, its new one, and its end of input", async () => {
    await using channel = await openAgentChannel(host.place, PATIENCE);
    let output = "";
    const heard = Promise.withResolvers<void>();
    const running = await startExec(
      channel,
      { ...sh("stty size; read -r line; stty size; cat"), terminal: { rows: 11, columns: 22 } },
      {
        stdout: (bytes) => {
          output += Buffer.from(bytes).toString();
          if (output.includes("11 22")) heard.resolve();
        },
        stderr: () => {},
      },
    );
    await heard.promise;
    running.resize(33, 44);
    await running.writeStdin(Buffer.from("go\n"));
    running.endStdin();
    expect(await running.exited).toMatchObject({ status: 0 });
    expect(output).toContain("33 44");
  });

  test("signals and the time limit reach the command", async () => {
    await using channel = await openAgentChannel(host.place, PATIENCE);
    const ready = Promise.withResolvers<void>();
    const running = await startExec(channel, sh("trap 'exit 9' USR1; echo; while :; do sleep 0.05; done"), {
      stdout: () => ready.resolve(),
      stderr: () => {},
    });
    await ready.promise;
    running.signal(10);
    expect(await running.exited).toMatchObject({ status: 9, signal: 0 });
    const limited = { ...sh("trap '' TERM; while :; do sleep 0.05; done"), timeoutMs: 50, killAfterMs: 50 };
    const { exit } = await runInGuest(host.place, limited, LIMITS);
    expect(exit).toMatchObject({ timedOut: true, signal: 9, status: 137 });
  });

  test("questions are answered, and orders that the agent may not do are refused", async () => {
    const usage = await readUsage(host.place, PATIENCE);
    expect(usage.rxBytes).toBeGreaterThanOrEqual(0);
    const server = Bun.listen({ hostname: "127.0.0.1", port: 0, socket: { data: () => {} } });
    try {
      const listeners = await readListeners(host.place, PATIENCE);
      expect(listeners.map(({ port }) => port)).toContain(server.port);
    } finally {
      server.stop(true);
    }
    await expect(setClock(host.place, new Date(0), PATIENCE)).rejects.toMatchObject({ reason: "system" });
    await expect(powerOff(host.place, "reboot", PATIENCE)).rejects.toMatchObject({ reason: "system" });
  });

  test("a hundred sessions one after the other", async () => {
    for (let i = 0; i < 100; i++) {
      const { exit } = await runInGuest(host.place, { argv: ["true"], env: [] }, LIMITS);
      expect(exit.status).toBe(0);
    }
  });

  test("a host that breaks the protocol is told so", async () => {
    await using channel = await openAgentChannel(host.place, PATIENCE);
    const { promise, resolve, reject } = Promise.withResolvers<string>();
    channel.receive({
      onFrame: (frame) => resolve(frame.name === "error" ? `${frame.code}` : frame.name),
      onLost: reject,
    });
    channel.send(encodeFrame("done", {}));
    expect(await promise).toBe("1");
  });
});

test("a serial port works for the next host, wherever the last one was killed", async () => {
  const path = agentSocketPath(serial.place.directory, 5);
  const argument = encodeFrame("argument", { bytes: Buffer.alloc(AGENT_LIMITS.payloadBytes) });
  // In a hello; after one; in a header; in a payload.
  for (const left of [0, 5, 36, 36 + 2, 36 + HEADER_BYTES, 36 + 1000, 36 + argument.length]) {
    const wire = await connectUnix(path);
    const hello = Buffer.concat([Buffer.from("\0banger-hello-1\n"), Buffer.alloc(16, 1), Buffer.from([1, 0, 0, 0])]);
    wire.write(Buffer.concat([hello, argument]).subarray(0, left));
    wire.close();
    await wire.gone;
    const { exit } = await runInGuest(serial.place, { argv: ["true"], env: [] }, LIMITS);
    expect(exit.status).toBe(0);
  }
  // While its command runs and writes.
  const channel = await openAgentChannel(serial.place, PATIENCE);
  const wrote = Promise.withResolvers<void>();
  await startExec(channel, sh("yes"), { stdout: () => wrote.resolve(), stderr: () => {} });
  await wrote.promise;
  await channel[Symbol.asyncDispose]();
  const { stdout } = await runInGuest(serial.place, sh("echo mine"), LIMITS);
  expect(stdout.toString()).toBe("mine\n");
});

test("fifty sessions at once", async () => {
  await Promise.all(
    Array.from({ length: 50 }, async (_, i) => {
      const { stdout } = await runInGuest(vsock.place, sh(`echo ${i}; cat`), { ...LIMITS, timeoutMs: 60_000 });
      expect(stdout.toString()).toBe(`${i}\n`);
    }),
  );
});
