import { expect, test } from "bun:test";
import { Resolver } from "node:dns/promises";
import { startDnsServer } from "../../../../src/daemon/net/dns-server.ts";

test("a stub resolver gets the address, and the news", async () => {
  const names = new Map([["box", "172.16.0.2"]]);
  const server = await startDnsServer({ ip: "127.0.0.1", port: 0 }, (name) => names.get(name) ?? null);
  try {
    // One each: a resolver keeps answers for as long as it was told.
    const fresh = (): Resolver => {
      const resolver = new Resolver({ timeout: 2000, tries: 1 });
      resolver.setServers([server.address]);
      return resolver;
    };
    expect(await fresh().resolve4("box.vm")).toEqual(["172.16.0.2"]);
    names.delete("box");
    await expect(fresh().resolve4("box.vm")).rejects.toMatchObject({ code: "ENOTFOUND" });
    await expect(fresh().resolve6("box.vm")).rejects.toThrow();
  } finally {
    await server.close();
  }
});

test("a taken port is said", async () => {
  const first = await startDnsServer({ ip: "127.0.0.1", port: 0 }, () => null);
  try {
    const port = Number(first.address.split(":")[1]);
    await expect(startDnsServer({ ip: "127.0.0.1", port }, () => null)).rejects.toMatchObject({ code: "IN_USE" });
  } finally {
    await first.close();
  }
});
