/**
 * `banger internal guest-connect JAIL-ROOT IP PORT`: ssh's way to a guest of system mode. Connects over vsock, or to the
 * address where vsock doesn't answer, passes the connection to ssh (ProxyUseFdpass) and ends: no process stays in
 * between. Source: ssh_config(5), Firecracker docs/vsock.md.
 */

import { BangerError, exitStatusOf } from "../../shared/errors.ts";
import { JAIL } from "../../shared/helper-contract.ts";
import { openJailSocket } from "../../shared/jail.ts";
import { parseIpv4 } from "../net/addresses.ts";
import { BlockingSocket, passDescriptor } from "../system-calls.ts";

/** A guest that listens on vsock answers at once; one that doesn't may never. */
const VSOCK_TIMEOUT_MS = 1500;
const TCP_TIMEOUT_MS = 10_000;
const ANSWER_LIMIT_BYTES = 32;
const STDOUT = 1;

/** Returns the process's exit status. */
export function connectGuest(argv: readonly string[]): number {
  const [jailRoot, ip, port] = [argv[0], argv[1] ?? "", Number(argv[2])];
  if (jailRoot === undefined || parseIpv4(ip) === null || !Number.isInteger(port) || port < 1 || port > 65535) {
    process.stderr.write("usage: banger internal guest-connect JAIL-ROOT IP PORT\n");
    return exitStatusOf("USAGE");
  }
  try {
    using socket = overVsock(jailRoot, port) ?? BlockingSocket.toTcp(ip, port, TCP_TIMEOUT_MS);
    socket.clearTimeouts();
    passDescriptor(STDOUT, socket.fd);
    return 0;
  } catch (thrown) {
    process.stderr.write(`banger: ${ip}:${port}: ${(thrown as Error).message}\n`);
    return exitStatusOf("GUEST_NOT_READY");
  }
}

/** A connection to the guest's vsock port, not a byte of which was read; null when there is none to be had. */
function overVsock(jailRoot: string, port: number): BlockingSocket | null {
  let socket: BlockingSocket | null = null;
  try {
    using target = openJailSocket(jailRoot, JAIL.vsockSocket);
    socket = BlockingSocket.toUnix(target.path, VSOCK_TIMEOUT_MS);
    socket.write(`CONNECT ${port}\n`);
    const answer = socket.readLine(ANSWER_LIMIT_BYTES);
    if (answer === null || !/^OK \d{1,10}$/.test(answer)) throw new BangerError("GUEST_NOT_READY", "no answer");
    return socket;
  } catch {
    // Whatever it was, the guest's address is the other way, and says why when it fails too.
    socket?.[Symbol.dispose]();
    return null;
  }
}
