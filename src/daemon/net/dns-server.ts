/** Answers for `<name>.vm` on the host's loopback. What it says is looked up at each question, so it is never stale. */

import { createSocket, type Socket } from "node:dgram";
import { BangerError } from "../../shared/errors.ts";
import { bindUdp } from "../system-calls.ts";
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
    close: async () => await new Promise<void>((resolve) => socket.close(() => resolve())),
  };
}

/** The kept socket if it is at that address, else a new one, which is kept from now on. */
async function openSocket(
  { ip, port }: { readonly ip: string; readonly port: number },
  { kept, keep }: SocketKeeper,
): Promise<Socket> {
  if (kept !== null) {
    const socket = await takeOver(kept);
    const found = socket.address();
    if (found.address === ip && found.port === port) return socket;
    await new Promise<void>((resolve) => socket.close(() => resolve()));
  }
  let fd: number;
  try {
    fd = bindUdp(ip, port);
  } catch (cause) {
    throw new BangerError("IN_USE", `names under .vm are not served: ${ip}:${port}: ${(cause as Error).message}`, {
      cause,
      hint: "set dns in /etc/banger/config.toml to another port",
    });
  }
  keep(fd);
  return await takeOver(fd);
}

async function takeOver(fd: number): Promise<Socket> {
  const socket = createSocket({ type: "udp4" });
  await new Promise<void>((resolve, reject) => {
    socket.once("error", reject);
    socket.bind({ fd }, resolve);
  });
  socket.removeAllListeners("error");
  return socket;
}
