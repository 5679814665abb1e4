/** Forwards from this host's loopback to a guest's, on its control connection. */

import { BangerError } from "../../../shared/errors.ts";
import type { GuestAddress } from "../address.ts";
import { checkHostPort, LOOPBACK } from "../host-port.ts";
import type { SshConnection } from "./connection.ts";

const CONTROL_TIMEOUT_MS = 10_000;

/** ssh's words for a forward of one address of this host. */
const forwardWords = (host: string, hostPort: number, guestPort: number): readonly string[] => [
  "-L",
  `${host.includes(":") ? `[${host}]` : host}:${hostPort}:127.0.0.1:${guestPort}`,
];

/** On every loopback address, or on none. @throws BangerError IN_USE, NO_ACCESS, FAILED */
export async function addForward(
  connection: Pick<SshConnection, "control">,
  address: GuestAddress,
  hostPort: number,
  guestPort: number,
): Promise<void> {
  const added: string[] = [];
  for (const host of await checkHostPort(hostPort)) {
    const words = forwardWords(host, hostPort, guestPort);
    const result = await connection.control(address, ["-O", "forward", ...words], CONTROL_TIMEOUT_MS);
    if (result.exitCode === 0) {
      added.push(host);
      continue;
    }
    for (const each of added) await cancel(connection, address, forwardWords(each, hostPort, guestPort));
    throw new BangerError("FAILED", `ssh can't forward ${host} port ${hostPort}: ${result.stderr.trim()}`, {
      hint: `banger vm ports ${address.id}`,
    });
  }
}

/** A forward that is gone already is no error. */
export async function removeForward(
  connection: Pick<SshConnection, "control">,
  address: GuestAddress,
  hostPort: number,
  guestPort: number,
): Promise<void> {
  for (const host of LOOPBACK) await cancel(connection, address, forwardWords(host, hostPort, guestPort));
}

async function cancel(
  connection: Pick<SshConnection, "control">,
  address: GuestAddress,
  words: readonly string[],
): Promise<void> {
  await connection.control(address, ["-O", "cancel", ...words], CONTROL_TIMEOUT_MS);
}
