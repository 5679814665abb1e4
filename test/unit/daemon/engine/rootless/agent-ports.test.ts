import { afterEach, beforeEach, expect, test } from "bun:test";
import { mkdtemp, rm } from "node:fs/promises";
import { createServer, type Server, type Socket } from "node:net";
import { join } from "node:path";
import { waitForAgentPorts } from "../../../../../src/daemon/engine/rootless/agent-ports.ts";
import { SERIAL_PORTS } from "../../../../../src/shared/agent/serial-port.ts";

let dir: string;
let server: Server | undefined;
const sockets = new Set<Socket>();
beforeEach(async () => {
  dir = await mkdtemp("/tmp/banger-ports-");
});
afterEach(async () => {
  for (const socket of sockets) socket.destroy();
  sockets.clear();
  server?.close();
  await rm(dir, { recursive: true, force: true });
});

type Chardev = { label: string; filename: string; "frontend-open": boolean };
const chardevs = (isOpen: (port: number) => boolean): Chardev[] => [
  { label: "serial", filename: "file", "frontend-open": true },
  ...SERIAL_PORTS.map((port) => ({ label: `agent${port}`, filename: "unix", "frontend-open": isOpen(port) })),
];

/** A monitor that knows these devices, and says these events after that. */
async function monitor(devices: readonly Chardev[], events: readonly object[]): Promise<string> {
  const line = (message: object): string => `${JSON.stringify(message)}\r\n`;
  server = createServer((socket) => {
    sockets.add(socket);
    socket.on("error", () => socket.destroy());
    socket.write(line({ QMP: {} }));
    socket.on("data", (chunk) => {
      for (const text of chunk.toString("utf8").trim().split("\n")) {
        const isQuestion = (JSON.parse(text) as { execute: string }).execute === "query-chardev";
        socket.write(line({ return: isQuestion ? devices : {} }));
        if (isQuestion) for (const event of events) socket.write(line(event));
      }
    });
  });
  const path = join(dir, "qmp.sock");
  await new Promise<void>((resolve) => server?.listen(path, resolve));
  return path;
}

const change = (id: string, open: boolean): object => ({ event: "VSERPORT_CHANGE", data: { id, open } });
const options = { timeoutMs: 2000, signal: new AbortController().signal };

test("ports that are open already are not waited for", async () => {
  const path = await monitor(
    chardevs(() => true),
    [],
  );
  await waitForAgentPorts(path, options);
});

test("the others are, each of them", async () => {
  const opened = SERIAL_PORTS.slice(3).map((port) => change(`agent${port}`, true));
  const path = await monitor(
    chardevs((port) => port < 3),
    [{ event: "RTC_CHANGE", data: { offset: 0 } }, ...opened],
  );
  await waitForAgentPorts(path, options);
});

test.each<[string, readonly object[]]>([
  ["one that stays closed", SERIAL_PORTS.slice(1).map((port) => change(`agent${port}`, true))],
  [
    "one that is closed again",
    [...SERIAL_PORTS.map((port) => change(`agent${port}`, port > 0)), change("agent5", false)],
  ],
  ["others' ports", Array.from({ length: 16 }, (_, n) => change(`other${n}`, true))],
])("%s is no agent", async (_, events) => {
  const path = await monitor(
    chardevs(() => false),
    events,
  );
  await expect(waitForAgentPorts(path, { ...options, timeoutMs: 150 })).rejects.toMatchObject({ code: "VMM_FAILED" });
});

test("whoever stops waiting is told so", async () => {
  const path = await monitor(
    chardevs(() => false),
    [],
  );
  const waiting = waitForAgentPorts(path, { timeoutMs: 60_000, signal: AbortSignal.timeout(50) });
  await expect(waiting).rejects.toMatchObject({ code: "CANCELLED" });
});

test("an answer of another shape is an error, not a crash", async () => {
  const path = await monitor([{ label: 7 } as unknown as Chardev], []);
  await expect(waitForAgentPorts(path, options)).rejects.toMatchObject({ code: "VMM_FAILED" });
});
