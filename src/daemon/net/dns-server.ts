/** Answers for `<name>.vm` on the host's loopback. What it says is looked up at each question, so it is never stale. */

import { createSocket } from "node:dgram";
import { BangerError } from "../../shared/errors.ts";
import { answerQuery } from "./dns-message.ts";

export interface DnsServer {
  /** `IP:port`, as a resolver is told. */
  readonly address: string;
  close(): Promise<void>;
}

/** @throws BangerError IN_USE when something else listens there */
export async function startDnsServer(
  listen: { readonly ip: string; readonly port: number },
  lookUp: (name: string) => string | null,
): Promise<DnsServer> {
  const socket = createSocket({ type: "udp4" });
  await new Promise<void>((resolve, reject) => {
    socket.once("error", (cause) => {
      reject(
        new BangerError("IN_USE", `names under .vm are not served: ${listen.ip}:${listen.port}: ${cause.message}`, {
          cause,
          hint: "set dns in /etc/banger/config.toml to another port",
        }),
      );
    });
    socket.bind({ address: listen.ip, port: listen.port, exclusive: true }, resolve);
  });
  socket.removeAllListeners("error");
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
