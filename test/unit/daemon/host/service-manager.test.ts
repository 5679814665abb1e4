import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { closeSync } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { join } from "node:path";
import { inheritedSockets, keepDnsSocket, notifyServiceManager } from "../../../../src/daemon/host/service-manager.ts";
import { bindGuarded, sendDatagram } from "../../../../src/daemon/host/system-calls.ts";

describe("sockets handed over", () => {
  const ours = { LISTEN_PID: "7", LISTEN_FDS: "1", LISTEN_FDNAMES: "bangerd.socket" };

  test("are told by their names", () => {
    expect(inheritedSockets(ours, 7)).toEqual({ api: 3, dns: null });
    expect(inheritedSockets({ ...ours, LISTEN_FDNAMES: undefined }, 7)).toEqual({ api: 3, dns: null });
    const all = { ...ours, LISTEN_FDS: "3", LISTEN_FDNAMES: "bangerd.socket:dns:dns-guard" };
    expect(inheritedSockets(all, 7)).toEqual({ api: 3, dns: { fd: 4, guard: 5 } });
    expect(inheritedSockets({ ...all, LISTEN_FDNAMES: "dns-guard:bangerd.socket:dns" }, 7)).toEqual({
      api: 4,
      dns: { fd: 5, guard: 3 },
    });
    // One without the other is none.
    const half = { ...ours, LISTEN_FDS: "2", LISTEN_FDNAMES: "bangerd.socket:dns" };
    expect(inheritedSockets(half, 7)).toEqual({ api: 3, dns: null });
    expect(inheritedSockets({ ...half, LISTEN_FDNAMES: "dns:dns-guard" }, 7)).toEqual({
      api: null,
      dns: { fd: 3, guard: 4 },
    });
  });

  test("are for this process, and no more than are known", () => {
    const none = { api: null, dns: null };
    // Inherited from a parent that was the one meant.
    expect(inheritedSockets({ ...ours, LISTEN_PID: "6" }, 7)).toEqual(none);
    expect(inheritedSockets({ ...ours, LISTEN_FDS: "4" }, 7)).toEqual(none);
    expect(inheritedSockets({ ...ours, LISTEN_FDS: "x" }, 7)).toEqual(none);
    expect(inheritedSockets({}, 7)).toEqual(none);
  });
});

describe("notifying", () => {
  let dir: string;
  beforeEach(async () => {
    dir = await mkdtemp("/tmp/bt-sd-");
  });
  afterEach(async () => await rm(dir, { recursive: true, force: true }));

  // Perl is on every Debian, and Bun has no unix datagram sockets to receive with.
  const RECEIVE = `use Socket; my $n = $ARGV[0]; $n =~ s/^@/\\0/;
    socket(my $s, AF_UNIX, SOCK_DGRAM, 0) or die; bind($s, pack_sockaddr_un($n)) or die "bind: $!";
    $| = 1; print "ready\\n"; recv($s, my $m, 100, 0); print $m;`;

  test.each(["path", "abstract"])("reaches a socket with a %s name", async (kind) => {
    const name = kind === "path" ? join(dir, "notify") : `@bt-${crypto.randomUUID()}`;
    const receiver = Bun.spawn(["perl", "-e", RECEIVE, name], { stdout: "pipe", stderr: "inherit" });
    const reader = receiver.stdout.getReader();
    const decoder = new TextDecoder();
    expect(decoder.decode((await reader.read()).value)).toBe("ready\n");
    notifyServiceManager({ NOTIFY_SOCKET: name }, "READY=1");
    expect(decoder.decode((await reader.read()).value)).toBe("READY=1");
    expect(await receiver.exited).toBe(0);
  });

  test("has a socket kept in place of the one before; that it is kept shows in the test host", async () => {
    const name = join(dir, "notify");
    const receiver = Bun.spawn(
      ["perl", "-e", `${RECEIVE} for (1 .. 3) { print "|"; recv($s, $m, 100, 0); print $m; }`, name],
      {
        stdout: "pipe",
        stderr: "inherit",
      },
    );
    const reader = receiver.stdout.getReader();
    expect(new TextDecoder().decode((await reader.read()).value)).toBe("ready\n");
    const socket = bindGuarded("127.0.0.1", 0);
    keepDnsSocket({ NOTIFY_SOCKET: name }, socket);
    for (const fd of [socket.fd, socket.guard]) closeSync(fd);
    expect(await receiver.exited).toBe(0);
    let said = "";
    for (let chunk = await reader.read(); !chunk.done; chunk = await reader.read())
      said += new TextDecoder().decode(chunk.value);
    expect(said).toBe(
      ["dns", "dns-guard"]
        .map((name) => `FDSTOREREMOVE=1\nFDNAME=${name}|FDSTORE=1\nFDNAME=${name}\nFDPOLL=0`)
        .join("|"),
    );
  });

  test("nobody there, and a name that is too long, are said and harm nothing", () => {
    expect(sendDatagram(join(dir, "nobody"), "x")).toBe(false);
    expect(sendDatagram("x".repeat(200), "x")).toBe(false);
    expect(sendDatagram("", "x")).toBe(false);
    notifyServiceManager({}, "READY=1");
  });
});
