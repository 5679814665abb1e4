import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { mkdtemp, rm } from "node:fs/promises";
import { join } from "node:path";
import { inheritedSocket, notifyServiceManager } from "../../../src/daemon/service-manager.ts";
import { sendDatagram } from "../../../src/daemon/system-calls.ts";

describe("a socket handed over", () => {
  test("is descriptor 3, when it is for this process and the only one", () => {
    expect(inheritedSocket({ LISTEN_PID: "7", LISTEN_FDS: "1" }, 7)).toBe(3);
    // Inherited from a parent that was the one meant.
    expect(inheritedSocket({ LISTEN_PID: "6", LISTEN_FDS: "1" }, 7)).toBeNull();
    expect(inheritedSocket({ LISTEN_PID: "7", LISTEN_FDS: "2" }, 7)).toBeNull();
    expect(inheritedSocket({}, 7)).toBeNull();
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

  test("nobody there, and a name that is too long, are said and harm nothing", () => {
    expect(sendDatagram(join(dir, "nobody"), "x")).toBe(false);
    expect(sendDatagram("x".repeat(200), "x")).toBe(false);
    expect(sendDatagram("", "x")).toBe(false);
    notifyServiceManager({}, "READY=1");
  });
});
