/**
 * `banger internal guest-connect JAIL-ROOT IP PORT WAIT-MS`: ssh's way to a guest of system mode. Connects over vsock, or to
 * the address of a guest that doesn't listen on vsock, passes the connection to ssh (ProxyUseFdpass) and ends: no process
 * stays in between. It waits for a guest that still boots, so that the first connection that is taken is the one that is
 * used: each costs the guest a process. Source: ssh_config(5), Firecracker docs/vsock.md.
 */

import { exitStatusOf } from "../../../shared/errors.ts";
import { JAIL } from "../../../shared/contract/helper-api.ts";
import { parseIpv4 } from "../../../shared/network/ipv4.ts";
import { openJailSocket } from "../../../shared/jail.ts";
import { BlockingSocket, passDescriptor } from "../../host/system-calls.ts";

/** Firecracker gives up on a silent guest after 2 s. */
const VSOCK_TIMEOUT_MS = 2500;
/** An address without a guest swallows what is sent to it. */
const TCP_TIMEOUT_MS = 400;
/** The address is for guests without vsock. */
const TCP_EVERY_MS = 1000;
const FIRST_POLL_MS = 20;
/** Each question interrupts the guest: the longer it takes to boot, the less often it is asked. */
const SLOWEST_POLL_MS = 100;
const ANSWER_LIMIT_BYTES = 32;
const STDOUT = 1;

/** Returns the process's exit status. */
export function connectGuest(argv: readonly string[]): number {
  const [jailRoot = "", ip = "", ...numbers] = argv;
  const [port = 0, waitMs = -1] = numbers.map(Number);
  if (parseIpv4(ip) === null || !Number.isInteger(port) || port < 1 || port > 65535 || !(waitMs >= 0)) {
    process.stderr.write("usage: banger internal guest-connect JAIL-ROOT IP PORT WAIT-MS\n");
    return exitStatusOf("USAGE");
  }
  const deadline = Date.now() + waitMs;
  let nextTcp = 0;
  let failure = "";
  for (let pollMs = FIRST_POLL_MS; ; pollMs = Math.min(pollMs * 1.2, SLOWEST_POLL_MS)) {
    using vsock = overVsock(jailRoot, port);
    if (vsock !== null) return handOver(vsock);
    if (Date.now() >= nextTcp) {
      try {
        using tcp = BlockingSocket.toTcp(ip, port, TCP_TIMEOUT_MS);
        return handOver(tcp);
      } catch (thrown) {
        failure = (thrown as Error).message;
        nextTcp = Date.now() + TCP_EVERY_MS;
      }
    }
    if (Date.now() >= deadline) {
      process.stderr.write(`banger: ${ip}:${port}: ${failure}\n`);
      return exitStatusOf("GUEST_NOT_READY");
    }
    Bun.sleepSync(pollMs);
  }
}

function handOver(socket: BlockingSocket): number {
  socket.clearTimeouts();
  passDescriptor(STDOUT, socket.fd);
  return 0;
}

/** A connection to the guest's vsock port, not a byte of which was read; null when there is none to be had. */
function overVsock(jailRoot: string, port: number): BlockingSocket | null {
  let socket: BlockingSocket | null = null;
  try {
    using target = openJailSocket(jailRoot, JAIL.vsockSocket);
    socket = BlockingSocket.toUnix(target.path, VSOCK_TIMEOUT_MS);
    socket.write(`CONNECT ${port}\n`);
    const answer = socket.readLine(ANSWER_LIMIT_BYTES);
    if (answer !== null && /^OK \d{1,10}$/.test(answer)) return socket;
  } catch {
    // Whatever it was, the guest's address is the other way, and says why when it fails too.
  }
  socket?.[Symbol.dispose]();
  return null;
}
