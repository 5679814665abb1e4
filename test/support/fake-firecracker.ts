/** Firecracker's API that only pretends: real HTTP on a real unix socket in a jail-shaped directory. */

import { mkdir, rm, symlink, writeFile } from "node:fs/promises";
import { createServer } from "node:http";
import { join } from "node:path";
import { JAIL } from "../../src/shared/contract/helper-api.ts";

export interface FakeFirecracker extends AsyncDisposable {
  readonly requests: { readonly method: string; readonly path: string; readonly body: unknown }[];
  /** The jail's `io` by a name short enough for a socket in it. */
  readonly io: string;
  /** How many connections were made. */
  connections(): number;
}

/**
 * Serves in `<jailRoot>/io`. `answer` may refuse a request with a status and a reason. `shortDir` is where a link with a
 * short name goes: the jail's own path may be longer than a socket's address holds.
 */
export async function startFakeFirecracker(
  jailRoot: string,
  shortDir: string,
  options: {
    readonly version?: string;
    readonly answer?: (method: string, path: string) => { readonly status: number; readonly text: string } | null;
  } = {},
): Promise<FakeFirecracker> {
  const requests: FakeFirecracker["requests"] = [];
  await mkdir(join(jailRoot, JAIL.io), { recursive: true });
  const link = join(shortDir, `io-${crypto.randomUUID().slice(0, 8)}`);
  await symlink(join(jailRoot, JAIL.io), link);
  const server = createServer((request, response) => {
    const chunks: Buffer[] = [];
    request.on("data", (chunk: Buffer) => chunks.push(chunk));
    request.on("end", () => {
      const text = Buffer.concat(chunks).toString();
      const [method, path] = [request.method ?? "", request.url ?? ""];
      requests.push({ method, path, body: text === "" ? null : (JSON.parse(text) as unknown) });
      const refused = options.answer?.(method, path) ?? null;
      if (refused !== null) {
        response.writeHead(refused.status).end(refused.text);
      } else if (method === "GET" && path === "/version") {
        response.writeHead(200).end(JSON.stringify({ firecracker_version: options.version ?? "1.16.1" }));
      } else {
        if (path === "/serial") void writeFile(join(jailRoot, JAIL.serialLog), "booting\n");
        response.writeHead(204).end();
      }
    });
  });
  let connections = 0;
  server.on("connection", () => connections++);
  await new Promise<void>((resolve) => server.listen(join(link, "api.sock"), resolve));
  return {
    requests,
    io: link,
    connections: () => connections,
    [Symbol.asyncDispose]: async () => {
      await new Promise<void>((resolve) => server.close(() => resolve()));
      await rm(link, { force: true });
    },
  };
}
