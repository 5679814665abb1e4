import { describe, expect, test } from "bun:test";
import { createServer, type Server } from "node:net";
import { checkHostPort } from "../../../../src/daemon/guest/host-port.ts";

async function listen(host: string, port = 0): Promise<{ readonly port: number } & AsyncDisposable> {
  const server: Server = createServer();
  await new Promise<void>((resolve, reject) => {
    server.once("error", reject);
    server.listen({ host, port }, resolve);
  });
  const { port: own } = server.address() as { port: number };
  return {
    port: own,
    [Symbol.asyncDispose]: async () => await new Promise<void>((resolve) => server.close(() => resolve())),
  };
}

const hasIpv6 = await listen("::1").then(
  async (server) => {
    await server[Symbol.asyncDispose]();
    return true;
  },
  () => false,
);
if (!hasIpv6) console.error("skip: this host has no ::1");

describe("a port of this host", () => {
  test("that is free is listened on at both addresses, and free afterwards", async () => {
    const { port } = await (async () => {
      await using server = await listen("127.0.0.1");
      return { port: server.port };
    })();
    const expected = hasIpv6 ? ["127.0.0.1", "::1"] : ["127.0.0.1"];
    expect(await checkHostPort(port)).toEqual(expected);
    expect(await checkHostPort(port)).toEqual(expected);
  });

  test("that another program has is IN_USE", async () => {
    await using server = await listen("127.0.0.1");
    await expect(checkHostPort(server.port)).rejects.toMatchObject({
      code: "IN_USE",
      message: `127.0.0.1:${server.port} is taken: another program listens there`,
    });
  });

  test.skipIf(!hasIpv6)(
    "that is taken on ::1 only is IN_USE, too: localhost would reach the other program",
    async () => {
      await using server = await listen("::1");
      await expect(checkHostPort(server.port)).rejects.toMatchObject({
        code: "IN_USE",
        message: `[::1]:${server.port} is taken: another program listens there`,
      });
    },
  );

  test("below 1024 as a plain user is NO_ACCESS, with a port that works", async () => {
    const script = `const { checkHostPort } = await import(${JSON.stringify(
      new URL("../../../../src/daemon/guest/host-port.ts", import.meta.url).pathname,
    )}); await checkHostPort(80).catch(({ code, message, hint }) => console.log([code, message, hint].join("\\n")));`;
    const asUser = process.getuid?.() === 0 ? { uid: 65_534, gid: 65_534 } : {};
    const child = Bun.spawn([process.execPath, "-e", script], {
      ...asUser,
      cwd: "/",
      stdout: "pipe",
      stderr: "inherit",
    });
    const said = (await new Response(child.stdout).text()).trim().split("\n");
    const least = Number(await Bun.file("/proc/sys/net/ipv4/ip_unprivileged_port_start").text());
    if (least <= 80) {
      console.error(`skip: this host lets everybody listen from port ${least} on`);
      return;
    }
    expect(said).toEqual([
      "NO_ACCESS",
      "you may not listen on 127.0.0.1:80: low ports are reserved for root",
      "banger vm forward NAME 8080:PORT",
    ]);
  });
});
