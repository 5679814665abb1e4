/** Answers for `<name>.vm` on the host's loopback. What it says is looked up at each question, so it is never stale. */

import { createSocket, type Socket } from "node:dgram";
import { closeSync, readFileSync } from "node:fs";
import { BangerError } from "../../../../shared/errors.ts";
import { bindGuarded, type GuardedSocket } from "../../../host/system-calls.ts";
import { answerQuery } from "./dns-message.ts";

/** Of one server, at its address: the one that answers, and its guard. */
const SOCKETS = 2;

export interface DnsServer {
  /** `IP:port`, as a resolver is told. */
  readonly address: string;
  close(): Promise<void>;
}

/** Where the server's socket outlives the daemon: between one daemon and the next, no other user can take its port. */
export interface SocketKeeper {
  /** The socket of the daemon before; null when there is none. */
  readonly kept: GuardedSocket | null;
  keep(socket: GuardedSocket): void;
}

/** @throws BangerError IN_USE when something else listens there */
export async function startDnsServer(
  listen: { readonly ip: string; readonly port: number },
  lookUp: (name: string) => string | null,
  keeper: SocketKeeper = { kept: null, keep: () => undefined },
): Promise<DnsServer> {
  const { socket, guard } = await openSocket(listen, keeper);
  // A client that is gone before its answer (ICMP unreachable) is no reason to end.
  socket.on("error", () => undefined);
  socket.on("message", (message, peer) => {
    const answer = answerQuery(message, lookUp);
    if (answer !== null) socket.send(answer, peer.port, peer.address, () => undefined);
  });
  const { port } = socket.address();
  return {
    address: `${listen.ip}:${port}`,
    close: async () => {
      await closed(socket);
      closeSync(guard);
    },
  };
}

interface OpenSocket {
  readonly socket: Socket;
  readonly guard: number;
}

/** The kept socket if it is at that address, else a new one, which is kept from now on. @throws BangerError IN_USE */
async function openSocket(
  { ip, port }: { readonly ip: string; readonly port: number },
  { kept, keep }: SocketKeeper,
): Promise<OpenSocket> {
  const inUse = (why: string, cause?: unknown): BangerError =>
    new BangerError("IN_USE", `names under .vm are not served: ${ip}:${port}: ${why}`, {
      cause,
      hint: "set dns in /etc/banger/config.toml to another port",
    });
  if (kept !== null) {
    const open = await takeOver(kept);
    const found = open.socket.address();
    if (found.address === ip && found.port === port) return open;
    await closed(open.socket);
    closeSync(open.guard);
  }
  let made: GuardedSocket;
  try {
    made = bindGuarded(ip, port);
  } catch (cause) {
    throw inUse((cause as Error).message, cause);
  }
  const open = await takeOver(made);
  // In the moment before the guard stood, another could have come.
  if (countSockets(readFileSync("/proc/net/udp", "utf8"), ip, open.socket.address().port) === SOCKETS) {
    keep(made);
    return open;
  }
  await closed(open.socket);
  closeSync(open.guard);
  throw inUse("another process listens there as well");
}

async function takeOver({ fd, guard }: GuardedSocket): Promise<OpenSocket> {
  const socket = createSocket({ type: "udp4" });
  await new Promise<void>((resolve, reject) => {
    socket.once("error", reject);
    socket.bind({ fd }, resolve);
  });
  socket.removeAllListeners("error");
  return { socket, guard };
}

const closed = async (socket: Socket): Promise<void> =>
  await new Promise<void>((resolve) => socket.close(() => resolve()));

/** How many sockets the text of /proc/net/udp has at an address. Source: proc(5), the address in the host's byte order. */
export function countSockets(table: string, ip: string, port: number): number {
  const bytes = Uint8Array.from(ip.split(".").map(Number));
  const word = new DataView(bytes.buffer).getUint32(0, true);
  const hex = (value: number, digits: number): string => value.toString(16).toUpperCase().padStart(digits, "0");
  const local = `${hex(word, 8)}:${hex(port, 4)}`;
  return table.split("\n").filter((line) => line.trim().split(/\s+/)[1] === local).length;
}
