/** The agent's serial ports under QEMU: unix sockets in the VM's runtime directory, one session at a time each. */

import { join } from "node:path";
import { AGENT_SERIAL_PORTS } from "./protocol.ts";

/** The numbers of the ports. */
export const SERIAL_PORTS: readonly number[] = Array.from({ length: AGENT_SERIAL_PORTS }, (_, port) => port);

/** The socket that QEMU listens on for a port. */
export const agentSocketPath = (directory: string, port: number): string => join(directory, `agent.${port}.sock`);

/** The file whose lock (flock(2)) says who uses a port: QEMU itself would let a second connection wait for ever. */
export const agentLockPath = (directory: string, port: number): string => join(directory, `agent.${port}.lock`);
