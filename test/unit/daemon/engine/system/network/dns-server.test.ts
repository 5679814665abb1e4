import { expect, test } from "bun:test";
import { Resolver } from "node:dns/promises";
import { closeSync, fstatSync, readFileSync } from "node:fs";
import { resolve } from "node:path";
import { bindGuarded, type GuardedSocket } from "../../../../../../src/daemon/host/system-calls.ts";
import { countSockets, startDnsServer } from "../../../../../../src/daemon/engine/system/network/dns-server.ts";

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

test("a socket that was kept is taken over if it is at the address that is wanted", async () => {
  const kept: GuardedSocket[] = [];
  const keeper = { kept: null, keep: (socket: GuardedSocket) => void kept.push(socket) };
  const first = await startDnsServer({ ip: "127.0.0.1", port: 0 }, () => "172.16.0.2", keeper);
  expect(kept).toHaveLength(1);
  const port = Number(first.address.split(":")[1]);
  await first.close();

  // What the next daemon gets, while the port is taken.
  const socket = bindGuarded("127.0.0.1", port);
  expect(() => bindGuarded("127.0.0.1", port)).toThrow("bind");
  const second = await startDnsServer({ ip: "127.0.0.1", port }, () => "172.16.0.3", { ...keeper, kept: socket });
  expect(second.address).toBe(first.address);
  expect(kept).toHaveLength(1);
  const resolver = new Resolver({ timeout: 2000, tries: 1 });
  resolver.setServers([second.address]);
  expect(await resolver.resolve4("box.vm")).toEqual(["172.16.0.3"]);
  await second.close();

  const elsewhere = bindGuarded("127.0.0.1", 0);
  const third = await startDnsServer({ ip: "127.0.0.1", port }, () => null, { ...keeper, kept: elsewhere });
  expect(third.address).toBe(first.address);
  expect(kept).toHaveLength(2);
  await third.close();
});

test("no other process can share the address, whatever its socket allows", async () => {
  const server = await startDnsServer({ ip: "127.0.0.1", port: 0 }, () => null);
  const port = Number(server.address.split(":")[1]);
  const share = (): string => Bun.spawnSync(["perl", "-e", SHARE, String(port)]).stdout.toString();
  expect(share()).toBe("Address already in use");
  await server.close();
  expect(share()).toBe("shared");
});

test("sockets at an address are counted, whosever they are", async () => {
  const server = await startDnsServer({ ip: "127.0.0.1", port: 0 }, () => null);
  const port = Number(server.address.split(":")[1]);
  const table = readFileSync("/proc/net/udp", "utf8");
  await server.close();
  expect(countSockets(table, "127.0.0.1", port)).toBe(2);
  const [line = ""] = table.split("\n").filter((each) => each.includes(`0100007F:${port.toString(16).toUpperCase()}`));
  expect(countSockets(`${table}${line}\n`, "127.0.0.1", port)).toBe(3);
  expect(countSockets(table, "127.0.0.2", port)).toBe(0);
});

// A second socket at the address, as another user may ask for one.
const SHARE = `use Socket; socket(my $s, AF_INET, SOCK_DGRAM, 0); setsockopt($s, SOL_SOCKET, SO_REUSEADDR, 1);
  print bind($s, pack_sockaddr_in($ARGV[0], inet_aton("127.0.0.1"))) ? "shared" : "$!";`;

test("a taken port is said", async () => {
  const first = await startDnsServer({ ip: "127.0.0.1", port: 0 }, () => null);
  try {
    const port = Number(first.address.split(":")[1]);
    await expect(startDnsServer({ ip: "127.0.0.1", port }, () => null)).rejects.toMatchObject({ code: "IN_USE" });
  } finally {
    await first.close();
  }
});

/** A daemon as the manager starts it: with the sockets that were kept. */
const DAEMON = `
  const { startDnsServer } = await import(process.argv[1] + "/engine/system/network/dns-server.ts");
  const { inheritedSockets } = await import(process.argv[1] + "/host/service-manager.ts");
  const { dns } = inheritedSockets({ ...process.env, LISTEN_PID: String(process.pid) }, process.pid);
  const keep = () => { throw new Error("made anew"); };
  await startDnsServer({ ip: "127.0.0.1", port: Number(process.argv[2]) }, () => "172.16.0.2", { kept: dns, keep });
  process.stdout.write("ready");
  setInterval(() => undefined, 1000);
`;
/** Another user's: tries to have or share the port until it can; how often it tried is said at the end. */
const THIEF = `use Socket; my $ends = 0; $SIG{TERM} = sub { $ends = 1 }; $| = 1; print "begins\\n"; my ($tries, $bound) = (0, 0);
  until ($ends) { socket(my $s, AF_INET, SOCK_DGRAM, 0); setsockopt($s, SOL_SOCKET, SO_REUSEADDR, 1); $tries++;
    $bound++ if bind($s, pack_sockaddr_in($ARGV[0], inet_aton("127.0.0.1"))); }
  print "$tries $bound";`;

test("while daemons are killed and take over from each other, nobody gets the port", async () => {
  const kept = bindGuarded("127.0.0.1", 0);
  const inode = String(fstatSync(kept.fd).ino);
  const rows = readFileSync("/proc/net/udp", "utf8")
    .split("\n")
    .map((line) => line.trim().split(/\s+/));
  const port = Number.parseInt(rows.find((row) => row[9] === inode)?.[1]?.split(":")[1] ?? "", 16);
  await using thief = Bun.spawn(["perl", "-e", THIEF, String(port)], { stdout: "pipe" });
  const said = thief.stdout.pipeThrough(new TextDecoderStream() as never) as ReadableStream<string>;
  const words = said.getReader();
  expect((await words.read()).value).toBe("begins\n");
  for (let round = 0; round < 5; round++) {
    const daemon = Bun.spawn(
      [process.execPath, "-e", DAEMON, resolve(import.meta.dir, "../../../../../../src/daemon"), String(port)],
      {
        env: { ...process.env, LISTEN_FDS: "2", LISTEN_FDNAMES: "dns:dns-guard" },
        stdio: ["ignore", "pipe", "inherit", kept.fd, kept.guard],
      },
    );
    expect(Buffer.from((await daemon.stdout.getReader().read()).value ?? []).toString()).toBe("ready");
    const resolver = new Resolver({ timeout: 5000, tries: 1 });
    resolver.setServers([`127.0.0.1:${port}`]);
    expect(await resolver.resolve4("box.vm")).toEqual(["172.16.0.2"]);
    daemon.kill("SIGKILL");
    await daemon.exited;
  }
  thief.kill("SIGTERM");
  const [tries, bound] = ((await words.read()).value ?? "").split(" ").map(Number);
  expect(bound).toBe(0);
  expect(tries).toBeGreaterThan(1000);
  for (const fd of [kept.fd, kept.guard]) closeSync(fd);
}, 60_000);
