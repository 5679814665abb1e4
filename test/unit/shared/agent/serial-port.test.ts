import { afterAll, expect, test } from "bun:test";
import { mkdtempSync, readdirSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { openAgentChannel } from "../../../../src/shared/agent/channel.ts";
import { AGENT_SERIAL_PORTS } from "../../../../src/shared/agent/protocol.ts";
import { agentLockPath, connectSerialPort } from "../../../../src/shared/agent/serial-port.ts";
import { serveSerial } from "../../../support/fake-guest.ts";

const root = mkdtempSync(join(tmpdir(), "banger-ports-"));
afterAll(() => rmSync(root, { recursive: true, force: true }));
const SOURCE = resolve(import.meta.dir, "../../../../src/shared/agent/serial-port.ts");
const PATIENCE = { timeoutMs: 5000 };
/** All but the one that is kept for looks. */
const USUAL_PORTS = AGENT_SERIAL_PORTS - 1;

const openDescriptors = (): number => readdirSync("/proc/self/fd").length;

test("each holder has a port of its own; when all are taken, the next waits for one", async () => {
  await using guest = await serveSerial(() => {});
  const { directory } = guest.place;
  const wires = await Promise.all(
    Array.from({ length: USUAL_PORTS }, async () => await connectSerialPort({ directory }, PATIENCE)),
  );
  await Promise.all(guest.agents.slice(0, USUAL_PORTS).map(async (agent) => await agent.connected(1)));
  await expect(connectSerialPort({ directory }, { timeoutMs: 60 })).rejects.toMatchObject({
    code: "IN_USE",
    message: "all 16 channels to the guest's agent were in use for 60 ms",
  });
  // A look may take the port that is kept for it; a second one finds none.
  const look = await connectSerialPort({ directory, isLook: true }, PATIENCE);
  await expect(connectSerialPort({ directory, isLook: true }, { timeoutMs: 20 })).rejects.toMatchObject({
    code: "IN_USE",
  });
  look.close();
  const aborter = new AbortController();
  const aborted = connectSerialPort({ directory }, { ...PATIENCE, signal: aborter.signal });
  aborter.abort();
  await expect(aborted).rejects.toMatchObject({ code: "CANCELLED" });
  const next = connectSerialPort({ directory }, PATIENCE);
  wires[3]?.close();
  const last = await next;
  await expect(connectSerialPort({ directory }, { timeoutMs: 20 })).rejects.toMatchObject({ code: "IN_USE" });
  for (const wire of [...wires, last]) wire.close();
});

test("a hundred at once take turns, and leave no descriptor", async () => {
  await using guest = await serveSerial(async (peer) => {
    await peer.accept();
    await peer.gone();
  });
  const before = openDescriptors();
  await Promise.all(
    Array.from({ length: 100 }, async () => {
      await using _channel = await openAgentChannel(guest.place, { timeoutMs: 20_000 });
      await new Promise(setImmediate);
    }),
  );
  await Promise.all(guest.agents.map(async (agent) => await agent.idle()));
  expect(openDescriptors()).toBe(before);
  // At random, so none was left out.
  const [last, ...others] = guest.agents.map(({ connections }) => connections).toReversed();
  expect([last, others.every((connections) => connections > 0)]).toEqual([0, true]);
});

test("the port of a killed process is free again", async () => {
  await using guest = await serveSerial(() => {});
  const { directory } = guest.place;
  const script = `
    const { connectSerialPort } = await import(${JSON.stringify(SOURCE)});
    globalThis.wires = [];
    for (let i = 0; i < ${USUAL_PORTS}; i++) wires.push(await connectSerialPort(${JSON.stringify({ directory })}, { timeoutMs: 5000 }));
    console.log("held");
    setInterval(() => {}, 1000);`;
  const holder = Bun.spawn([process.execPath, "-e", script], { stdin: "ignore", stdout: "pipe", stderr: "inherit" });
  const { value } = await holder.stdout.getReader().read();
  expect(new TextDecoder().decode(value)).toBe("held\n");
  await expect(connectSerialPort({ directory }, { timeoutMs: 20 })).rejects.toMatchObject({ code: "IN_USE" });
  holder.kill("SIGKILL");
  (await connectSerialPort({ directory }, PATIENCE)).close();
  await holder.exited;
});

test("a child process doesn't inherit a port", async () => {
  await using guest = await serveSerial(() => {});
  const wire = await connectSerialPort(guest.place, PATIENCE);
  const child = Bun.spawn(["sleep", "60"], { stdio: ["ignore", "ignore", "ignore"] });
  wire.close();
  await wire.gone;
  await Promise.all(guest.agents.map(async (agent) => await agent.idle()));
  const all = await Promise.all(
    Array.from({ length: USUAL_PORTS }, async () => await connectSerialPort(guest.place, PATIENCE)),
  );
  for (const one of all) one.close();
  child.kill("SIGKILL");
  await child.exited;
});

test("where no VM is, or none runs any more, nobody answers", async () => {
  await expect(connectSerialPort({ directory: join(root, "nothing") }, PATIENCE)).rejects.toMatchObject({
    code: "GUEST_NOT_READY",
  });
  const before = openDescriptors();
  await expect(connectSerialPort({ directory: root }, PATIENCE)).rejects.toMatchObject({ code: "GUEST_NOT_READY" });
  expect(openDescriptors()).toBe(before);
  expect(statSync(agentLockPath(root, 0)).mode & 0o777).toBe(0o600);
});
