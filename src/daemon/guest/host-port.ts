/** Whether a forward could listen on a port of this host's loopback: asked by listening there for a moment. */

import { createServer } from "node:net";
import { BangerError, isErrno } from "../../shared/errors.ts";

/** Both, since `localhost` is the second one to many programs. */
export const LOOPBACK = ["127.0.0.1", "::1"] as const;

/** The addresses that a forward listens on: a host without IPv6 has only the first. @throws BangerError IN_USE, NO_ACCESS */
export async function checkHostPort(port: number): Promise<readonly string[]> {
  const usable: string[] = [];
  for (const host of LOOPBACK) {
    const shown = `${host.includes(":") ? `[${host}]` : host}:${port}`;
    try {
      await listenBriefly(host, port);
      usable.push(host);
    } catch (thrown) {
      if (host === "::1" && ["EADDRNOTAVAIL", "EAFNOSUPPORT", "EINVAL"].some((errno) => isErrno(thrown, errno)))
        continue;
      if (isErrno(thrown, "EADDRINUSE"))
        throw new BangerError("IN_USE", `${shown} is taken: another program listens there`, {
          hint: `ss -Hltnp "sport = :${port}"`,
        });
      if (isErrno(thrown, "EACCES") || isErrno(thrown, "EPERM"))
        throw new BangerError("NO_ACCESS", `you may not listen on ${shown}: low ports are reserved for root`, {
          hint: `banger vm forward NAME ${port < 1024 ? port + 8000 : port}:PORT`,
        });
      throw thrown;
    }
  }
  return usable;
}

async function listenBriefly(host: string, port: number): Promise<void> {
  const server = createServer();
  await new Promise<void>((resolve, reject) => {
    server.once("error", reject);
    server.listen({ host, port, exclusive: true }, resolve);
  });
  await new Promise<void>((resolve) => server.close(() => resolve()));
}
