import { deepEqual, equal, ok } from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { AGENT_PROTOCOL, AGENT_VSOCK_PORT, HELLO_MAGIC } from "../../../src/shared/agent/protocol.ts";
import { GUEST_BOUNDS } from "../../../src/shared/network/walls.ts";
import type { Host } from "../host.ts";
import type { Scenario } from "../scenario.ts";
import { banger, bangerOk, BOOT_TIMEOUT_MS, ensureVm, type GuestVm } from "../support/guests.ts";
import { makeOutside, OUTSIDE, removeOutside } from "../support/outside.ts";

const HOSTILE_GUEST = readFileSync(join(import.meta.dir, "../support/hostile-guest.pl"), "utf8");
const HOST_IP = "10.0.2.15";
/** Long enough for new connections at their allowed rate to reach their bound. */
const FLOOD_SECONDS = 30;
/** Tolerance for kernel memory that can't be reclaimed, which everything else on the host uses as well. */
const SLAB_SLACK_KIB = 32 * 1024;
/** The test's own connections: ssh to the host and to guests. */
const OWN_CONNECTIONS = 64;

/** Measures what a flood could fill: learned entries, not those that banger makes for each tap, perhaps ahead. */
async function measure(
  host: Host,
): Promise<Readonly<Record<"bridgeEntries" | "neighbours" | "connections" | "slabKiB", number>>> {
  const text = await host.sh(`
    bridge fdb show br br-fc | awk '!/ (permanent|static)/' | wc -l
    ip neighbour show | awk '!/ PERMANENT/' | wc -l
    cat /proc/sys/net/netfilter/nf_conntrack_count
    awk '/^SUnreclaim:/ { print $2 }' /proc/meminfo
  `);
  const [bridgeEntries = 0, neighbours = 0, connections = 0, slabKiB = 0] = text.trim().split("\n").map(Number);
  return { bridgeEntries, neighbours, connections, slabKiB };
}

/**
 * A process in the guest says hello to the guest's agent, as the host does, over the loopback of vsock. Prints whether it was connected and
 * how many bytes came.
 */
const VSOCK_HELLO = `
  $SIG{PIPE} = "IGNORE";
  socket(my $agent, 40, 1, 0) or die "socket: $!";
  connect($agent, pack("SSLLx4", 40, 0, $ARGV[0], 1)) or die "connect: $!";
  syswrite($agent, pack("H*", $ARGV[1]) . "n" x 16 . pack("L", $ARGV[2]));
  my $count = sysread($agent, my $answer, 64);
  print "connected, ", $count // 0, " bytes\n";
`;
const VSOCK_WORDS = [AGENT_VSOCK_PORT, Buffer.from(HELLO_MAGIC, "latin1").toString("hex"), AGENT_PROTOCOL].map(String);

/** Sends attack frames from the guest. Returns how many it wrote. */
async function attack(host: Host, mode: string, from: GuestVm, other: GuestVm): Promise<number> {
  const gateway = from.guestIp.replace(/\.\d+$/, ".1");
  const words = [mode, String(FLOOD_SECONDS), from.guestIp, other.guestIp, gateway, HOST_IP, OUTSIDE];
  return Number(await bangerOk(host, "vm", "exec", from.name, "--", "perl", "-e", HOSTILE_GUEST, ...words));
}

/** Counts the attack's datagrams that arrive on the host, where its rules stop them, and outside. */
async function countArrivals(host: Host, tap: string): Promise<void> {
  await host.sh(
    `nft add table netdev watch
     nft "add chain netdev watch other { type filter hook egress device $1 priority 0; }"
     nft add rule netdev watch other udp dport 4242 counter
     nft add rule netdev watch other arp operation request counter
     nft add table inet watch
     nft "add chain inet watch in { type filter hook input priority 100; }"
     nft add rule inet watch in iifname br-fc udp dport 4242 counter
     nft add rule inet watch in iifname br-fc tcp flags == syn counter
     ip netns exec outside nft add table inet watch
     ip netns exec outside nft "add chain inet watch in { type filter hook prerouting priority -400; }"
     ip netns exec outside nft add rule inet watch in udp dport 4242 counter`,
    [tap],
  );
}
const readArrivals = async (host: Host): Promise<readonly number[]> =>
  (
    await host.sh(`(nft list table netdev watch; nft list table inet watch; ip netns exec outside nft list table inet watch) |
      sed -n 's/.*counter packets \\([0-9]*\\) .*/\\1/p'`)
  )
    .trim()
    .split("\n")
    .map(Number);
const NONE = [0, 0, 0, 0, 0];

/** Runs a command in the other guest while the flood lasts. Returns how often, and what failed. */
async function askMeanwhile(
  host: Host,
  vm: GuestVm,
  until: Promise<unknown>,
): Promise<readonly [asked: number, wrong: readonly string[]]> {
  let isOver = false;
  const over = until.then(
    () => void (isOver = true),
    () => void (isOver = true),
  );
  const wrong: string[] = [];
  let asked = 0;
  while (!isOver) {
    const { status, stderr } = await banger(host, "vm", "exec", vm.name, "--", "true");
    asked++;
    if (status !== 0) wrong.push(`${status} ${stderr}`);
  }
  await over;
  return [asked, wrong];
}

export const scenario: Scenario = {
  name: "vm-hostile-guest",
  summary:
    "forged frames from a guest's root reach neither the outside, the host nor another guest, and floods stay within limits; the agent obeys no process of its guest",
  needs: ["banger", "firecracker", "image"],
  timeoutMs: 3 * BOOT_TIMEOUT_MS,
  async run(host) {
    await makeOutside(host);
    try {
      const mallory = await ensureVm(host, "alpha");
      const other = await ensureVm(host, "beta");
      // Another guest has the NAT that mallory wants to borrow.
      await bangerOk(host, "vm", "set", "beta", "--nat");
      await host.sh("modprobe br_netfilter && sysctl -q net.bridge.bridge-nf-call-iptables=1");
      await countArrivals(host, `tap-pool-${other.guestIp.split(".")[3] ?? ""}`);

      // The agent takes orders from the host alone.
      await bangerOk(host, "vm", "exec", "alpha", "--", "modprobe", "vsock_loopback");
      const hello = await bangerOk(host, "vm", "exec", "alpha", "--", "perl", "-e", VSOCK_HELLO, ...VSOCK_WORDS);
      equal(hello, "connected, 0 bytes\n");

      for (const mode of ["escape", "reach"]) ok((await attack(host, mode, mallory, other)) > 30, mode);
      deepEqual(await readArrivals(host), NONE);

      const before = await measure(host);
      const flood = attack(host, "flood", mallory, other);
      const [asked, wrong] = await askMeanwhile(host, other, flood);
      const frames = await flood;
      const after = await measure(host);
      console.log(`     ${frames} frames of every kind; asked ${asked} times; ${JSON.stringify({ before, after })}`);
      ok(frames > 1000, `${frames} frames are no flood`);
      deepEqual(wrong, []);
      ok(asked > 0);
      equal(after.bridgeEntries, before.bridgeEntries);
      ok(after.neighbours <= before.neighbours + 4, "neighbours");
      ok(after.connections <= before.connections + OWN_CONNECTIONS, "connections without NAT");
      ok(after.slabKiB <= before.slabKiB + SLAB_SLACK_KIB, "kernel memory");
      deepEqual(await readArrivals(host), NONE);

      // With its own NAT it may connect, within its limit.
      await bangerOk(host, "vm", "set", "alpha", "--nat");
      const connecting = attack(host, "connections", mallory, other);
      const [askedAgain, wrongAgain] = await askMeanwhile(host, other, connecting);
      const connects = await connecting;
      const filled = await measure(host);
      console.log(`     ${connects} frames of new connections; asked ${askedAgain} times; ${JSON.stringify(filled)}`);
      deepEqual(wrongAgain, []);
      ok(filled.connections - after.connections > 500, "the flood of connections was none");
      ok(filled.connections <= after.connections + GUEST_BOUNDS.connections + OWN_CONNECTIONS, "connections with NAT");
      ok(filled.slabKiB <= before.slabKiB + SLAB_SLACK_KIB, "kernel memory with NAT");
    } finally {
      await host.sh(`
        for family in netdev inet; do nft delete table $family watch || true; done
        sysctl -q net.bridge.bridge-nf-call-iptables=0 || true
      `);
      for (const vm of ["alpha", "beta"]) await banger(host, "vm", "set", vm, "--no-nat");
      await removeOutside(host);
    }
  },
};
