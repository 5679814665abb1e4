/** Answers for `<name>.vm` on the host's loopback. What it says is looked up at each question, so it is never stale. */

import { createSocket, type Socket } from "node:dgram";
import { readFileSync } from "node:fs";
import { BangerError } from "../../shared/errors.ts";
import { bindUdp, makeExclusive } from "../system-calls.ts";
import { answerQuery } from "./dns-message.ts";

export interface DnsServer {
  /** `IP:port`, as a resolver is told. */
  readonly address: string;
  close(): Promise<void>;
}

/** Where the server's socket outlives the daemon: between one daemon and the next, no other user can take its port. */
export interface SocketKeeper {
  /** The socket of the daemon before; null when there is none. */
  readonly kept: number | null;
  keep(fd: number): void;
}

/** @throws BangerError IN_USE when something else listens there */
export async function startDnsServer(
  listen: { readonly ip: string; readonly port: number },
  lookUp: (name: string) => string | null,
  keeper: SocketKeeper = { kept: null, keep: () => undefined },
): Promise<DnsServer> {
  const socket = await openSocket(listen, keeper);
  // A client that is gone before its answer (ICMP unreachable) is no reason to end.
  socket.on("error", () => undefined);
  socket.on("message", (message, peer) => {
    const answer = answerQuery(message, lookUp);
    if (answer !== null) socket.send(answer, peer.port, peer.address, () => undefined);
  });
  const { port } = socket.address();
  return {
    address: `${listen.ip}:${port}`,
    close: async () => await closed(socket),
  };
}

/** The kept socket if it is at that address, else a new one, which is kept from now on. */
async function openSocket(
  { ip, port }: { readonly ip: string; readonly port: number },
  { kept, keep }: SocketKeeper,
): Promise<Socket> {
  const inUse = (why: string, cause?: unknown): BangerError =>
    new BangerError("IN_USE", `names under .vm are not served: ${ip}:${port}: ${why}`, {
      cause,
      hint: "set dns in /etc/banger/config.toml to another port",
    });
  if (kept !== null) {
    const socket = await takeOver(kept);
    const found = socket.address();
    if (found.address === ip && found.port === port) return await alone(socket, inUse);
    await closed(socket);
  }
  let fd: number;
  try {
    fd = bindUdp(ip, port);
  } catch (cause) {
    throw inUse((cause as Error).message, cause);
  }
  keep(fd);
  return await alone(await takeOver(fd), inUse);
}

/**
 * A socket that the runtime reads from. It sets SO_REUSEADDR on what it takes over, with which any user who sets it as well may
 * bind the same address and get the datagrams: it is taken off at once.
 */
async function takeOver(fd: number): Promise<Socket> {
  const socket = createSocket({ type: "udp4" });
  await new Promise<void>((resolve, reject) => {
    socket.once("error", reject);
    socket.bind({ fd }, resolve);
    makeExclusive(fd);
  });
  makeExclusive(fd);
  socket.removeAllListeners("error");
  return socket;
}

/** The socket, if nobody came to share its address before it was exclusive. @throws BangerError IN_USE */
async function alone(socket: Socket, inUse: (why: string) => BangerError): Promise<Socket> {
  const { address, port } = socket.address();
  if (countSockets(readFileSync("/proc/net/udp", "utf8"), address, port) === 1) return socket;
  await closed(socket);
  throw inUse("another process listens there as well");
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
