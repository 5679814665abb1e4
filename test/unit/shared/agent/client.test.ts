import { afterAll, expect, test } from "bun:test";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import {
  powerOff,
  readListeners,
  readUsage,
  runInGuest,
  setClock,
  waitReady,
} from "../../../../src/shared/agent/client.ts";
import { AGENT_SERIAL_PORTS } from "../../../../src/shared/agent/protocol.ts";
import { type AgentPeer, FakeAgent } from "../../../support/fake-agent.ts";

const root = mkdtempSync(join(tmpdir(), "banger-agent-client-"));
afterAll(() => rmSync(root, { recursive: true, force: true }));
let made = 0;

const BOOT_ID = "b4c9f2a4-5d3b-4d7e-9c39-0f9b1f3a7c11";
const TIMES = { timeoutMs: 5000 };

/** A VM's runtime directory whose ports all lead to agents with this script. */
async function serveGuest(script: (peer: AgentPeer) => unknown): Promise<{ directory: string } & AsyncDisposable> {
  const directory = mkdtempSync(join(root, `${made++}-`));
  const agents = await Promise.all(
    Array.from(
      { length: AGENT_SERIAL_PORTS },
      async (_, n) => await FakeAgent.listen(join(directory, `agent.${n}.sock`), script),
    ),
  );
  return {
    directory,
    [Symbol.asyncDispose]: async () => {
      await Promise.all(agents.map(async (agent) => await agent[Symbol.asyncDispose]()));
    },
  };
}

async function answer(peer: AgentPeer): Promise<void> {
  await peer.accept();
  const [first] = await peer.readRequest();
  switch (first?.name) {
    case "waitReady":
      return peer.send("ready", { flags: 1, bytes: Buffer.from(BOOT_ID) });
    case "clock":
      return first.seconds === 1_234_567_890n && first.nanoseconds === 123_000_000
        ? peer.send("done", {})
        : peer.send("error", { code: 6, errno: 22, bytes: Buffer.from("clock_settime") });
    case "power":
      return first.kind === 2
        ? peer.send("done", {})
        : peer.send("error", { code: 6, errno: 1, bytes: Buffer.from("no\u001b[31m power\n") });
    case "usage":
      peer.send("counters", { rxBytes: 7n, txBytes: 9n });
      return peer.send("done", {});
    case "listeners":
      peer.send("listener", { port: 22, bytes: Buffer.from("sshd") });
      peer.send("listener", { port: 8080, bytes: Buffer.alloc(0) });
      return peer.send("done", {});
    default:
      peer.send("started", { pid: 77 });
      for (let frame = await peer.read(); frame?.name === "stdin"; frame = await peer.read()) {
        peer.send("stdout", { bytes: frame.bytes });
        peer.send("credit", { bytes: frame.bytes.length });
      }
      peer.send("stderr", { bytes: Buffer.from("bye") });
      return peer.exit(3);
  }
}

test("each call asks for its thing and returns the answer", async () => {
  await using guest = await serveGuest(answer);
  const place = { kind: "serial", directory: guest.directory } as const;
  expect(await waitReady(place, TIMES)).toEqual({ bootId: BOOT_ID, workDisk: true, isInit: false });
  expect(await readUsage(place, TIMES)).toEqual({ rxBytes: 7, txBytes: 9 });
  expect(await readListeners(place, TIMES)).toEqual([
    { port: 22, process: "sshd" },
    { port: 8080, process: null },
  ]);
  await setClock(place, new Date(1_234_567_890_123), TIMES);
  await powerOff(place, "reboot", TIMES);
  await expect(powerOff(place, "poweroff", TIMES)).rejects.toMatchObject({
    code: "GUEST_FAILED",
    reason: "system",
    errno: 1,
    message: "the guest's agent: no [31m power",
  });
  const stdin = Buffer.alloc(1_000_000, "0123456789");
  const { exit, stdout, stderr } = await runInGuest(
    place,
    { argv: ["cat"], env: [], stdin },
    { ...TIMES, outputLimitBytes: 2_000_000 },
  );
  expect(exit).toMatchObject({ status: 3, signal: 0, peakKib: 4 });
  expect(stdout.equals(stdin)).toBe(true);
  expect(stderr.toString()).toBe("bye");
});
