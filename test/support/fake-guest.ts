/** A VM without one: agents of {@link FakeAgent} where a VM's are found. */

import { mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { AGENT_SERIAL_PORTS } from "../../src/shared/agent/protocol.ts";
import { agentSocketPath } from "../../src/shared/agent/serial-port.ts";
import { JAIL } from "../../src/shared/contract/helper-api.ts";
import { type AgentPeer, FakeAgent } from "./fake-agent.ts";

export interface SerialGuest extends AsyncDisposable {
  readonly place: { readonly kind: "serial"; readonly directory: string };
  readonly agents: readonly FakeAgent[];
}

/** As under QEMU: a socket for each port. */
export async function serveSerial(script: (peer: AgentPeer) => unknown): Promise<SerialGuest> {
  const directory = mkdtempSync(join(tmpdir(), "banger-serial-"));
  const agents = await Promise.all(
    Array.from({ length: AGENT_SERIAL_PORTS }, (_, port) => FakeAgent.listen(agentSocketPath(directory, port), script)),
  );
  return {
    place: { kind: "serial", directory },
    agents,
    [Symbol.asyncDispose]: async () => {
      await Promise.all(agents.map(async (agent) => await agent[Symbol.asyncDispose]()));
      rmSync(directory, { recursive: true, force: true });
    },
  };
}

export interface VsockGuest extends AsyncDisposable {
  readonly place: { readonly kind: "vsock"; readonly jailRoot: string };
  readonly agent: FakeAgent;
}

/** As under Firecracker: any number of connections through one socket. */
export async function serveVsock(script: (peer: AgentPeer) => unknown): Promise<VsockGuest> {
  const jailRoot = mkdtempSync(join(tmpdir(), "banger-vsock-"));
  mkdirSync(join(jailRoot, JAIL.io));
  const agent = await FakeAgent.listen(join(jailRoot, JAIL.vsockSocket), async (peer) => {
    const port = await peer.readConnect();
    if (port === null) return;
    peer.write("OK 1073741824\n");
    await script(peer);
  });
  return {
    place: { kind: "vsock", jailRoot },
    agent,
    [Symbol.asyncDispose]: async () => {
      await agent[Symbol.asyncDispose]();
      rmSync(jailRoot, { recursive: true, force: true });
    },
  };
}
