/**
 * The agent's serial ports of a guest under QEMU. What the host sends to a port before the guest has opened it is lost, and the socket
 * doesn't tell; the monitor does. Source: QEMU's QAPI, query-chardev and VSERPORT_CHANGE.
 */

import * as v from "valibot";
import { AGENT_SERIAL_PORTS, AGENT_SERIAL_PREFIX } from "../../../shared/agent/protocol.ts";
import { agentSocketPath, SERIAL_PORTS } from "../../../shared/agent/serial-port.ts";
import { watchMonitor } from "./qmp.ts";

/** Of a port's device and of its character device. */
const idOf = (port: number): string => `agent${port}`;

/**
 * A serial port for each session that the agent can have at once. Port 0 of the device is a console's, so it has room for one more.
 * `escape` makes a path a value of an option.
 */
export function agentPortArgs(runtimeDir: string, escape: (path: string) => string): readonly string[] {
  return [
    ...["-device", `virtio-serial-device,max_ports=${AGENT_SERIAL_PORTS + 1}`],
    ...SERIAL_PORTS.flatMap((port) => [
      ...["-chardev", `socket,id=${idOf(port)},server=on,wait=off,path=${escape(agentSocketPath(runtimeDir, port))}`],
      ...["-device", `virtserialport,id=${idOf(port)},chardev=${idOf(port)},name=${AGENT_SERIAL_PREFIX}${port}`],
    ]),
  ];
}

const Chardevs = v.array(v.object({ label: v.string(), "frontend-open": v.boolean() }));
const PortChange = v.object({ id: v.string(), open: v.boolean() });
const IDS: ReadonlySet<string> = new Set(SERIAL_PORTS.map(idOf));

/** Resolves when the guest has all of the agent's ports open. @throws BangerError VMM_FAILED, CANCELLED */
export async function waitForAgentPorts(
  monitorPath: string,
  options: { readonly timeoutMs: number; readonly signal: AbortSignal },
): Promise<void> {
  const open = new Set<string>();
  await watchMonitor(monitorPath, { execute: "query-chardev" }, options, (message) => {
    if (message.kind === "return") {
      for (const { label, "frontend-open": isOpen } of v.parse(Chardevs, message.value))
        if (isOpen && IDS.has(label)) open.add(label);
    } else if (message.name === "VSERPORT_CHANGE") {
      const { id, open: isOpen } = v.parse(PortChange, message.data);
      if (!isOpen) open.delete(id);
      else if (IDS.has(id)) open.add(id);
    }
    return open.size === IDS.size ? { result: null } : null;
  });
}
