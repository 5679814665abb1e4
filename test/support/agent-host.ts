/** The real agent on this machine, where a VM's is found: behind what stands in for Firecracker's socket, or for QEMU's serial port. */

import { mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { createServer, type Server, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { once } from "node:events";
import type { AgentPlace } from "../../src/shared/agent/channel.ts";
import { agentSocketPath } from "../../src/shared/agent/serial-port.ts";
import { JAIL } from "../../src/shared/contract/helper-api.ts";
import { connect as connectAgent, startAgent } from "./agent.ts";

export interface AgentHost<P extends AgentPlace = AgentPlace> extends AsyncDisposable {
  readonly place: P;
}

/** Hands bytes on both ways until either side closes, which closes the other. */
function joinSockets(a: Socket, b: Socket): void {
  a.pipe(b);
  b.pipe(a);
  for (const [one, other] of [
    [a, b],
    [b, a],
  ] as const) {
    one.on("error", () => other.destroy());
    one.on("close", () => other.destroySoon());
  }
}

async function listen(server: Server, path: string): Promise<void> {
  server.listen(path);
  await once(server, "listening");
}

/** Each connection is a session of its own. */
export async function hostOverVsock(): Promise<AgentHost<{ kind: "vsock"; jailRoot: string }>> {
  const agent = await startAgent();
  const jailRoot = mkdtempSync(join(tmpdir(), "banger-jail-"));
  mkdirSync(join(jailRoot, JAIL.io));
  const server = createServer((socket) => {
    socket.once("data", (line: Buffer) => {
      socket.pause();
      // The client waits for the answer, so nothing comes behind the line.
      if (!/^CONNECT \d+\n$/.test(line.toString())) return void socket.destroy();
      socket.write("OK 1073741824\n");
      void connectAgent(agent.socket).then((session) => joinSockets(socket, session));
    });
  });
  await listen(server, join(jailRoot, JAIL.vsockSocket));
  return {
    place: { kind: "vsock", jailRoot },
    [Symbol.asyncDispose]: async () => {
      server.close();
      rmSync(jailRoot, { recursive: true, force: true });
      await agent[Symbol.asyncDispose]();
    },
  };
}

/** One stream without a beginning or an end, one host at a time, as QEMU has it; the other ports are not there. */
export async function hostOverSerial(): Promise<AgentHost<{ kind: "serial"; directory: string }>> {
  const agent = await startAgent({ mode: "port" });
  const directory = mkdtempSync(join(tmpdir(), "banger-serial-"));
  const port = await connectAgent(agent.socket);
  let host: Socket | null = null;
  const waiting: Socket[] = [];
  port.on("error", () => {});
  port.on("data", (bytes: Buffer) => {
    // As QEMU does: what comes for no host is gone, and a host that doesn't read stops the port.
    if (host !== null && !host.write(bytes)) port.pause();
  });
  const take = (): void => {
    host = waiting.shift() ?? null;
    if (host === null) return void port.resume();
    const current = host;
    current.on("drain", () => port.resume());
    current.on("data", (bytes: Buffer) => {
      if (port.write(bytes)) return;
      current.pause();
      port.once("drain", () => current.resume());
    });
    current.on("close", take);
    current.resume();
    port.resume();
  };
  const server = createServer({ pauseOnConnect: true }, (socket) => {
    socket.on("error", () => {});
    waiting.push(socket);
    if (host === null) take();
  });
  await listen(server, agentSocketPath(directory, 5));
  return {
    place: { kind: "serial", directory },
    [Symbol.asyncDispose]: async () => {
      server.close();
      host?.destroy();
      port.destroy();
      rmSync(directory, { recursive: true, force: true });
      await agent[Symbol.asyncDispose]();
    },
  };
}
