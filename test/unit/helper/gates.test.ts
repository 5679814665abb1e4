import { describe, expect, test } from "bun:test";
import { BangerError } from "../../../src/shared/errors.ts";
import * as gates from "../../../src/helper/gates.ts";

/** Accepted facts, and refused ones with a part of why. */
interface Row<Facts> {
  readonly accepted: readonly Facts[];
  readonly refused: readonly (readonly [facts: Facts, why: string])[];
}

function table<Facts>(name: string, gate: gates.Gate<Facts>, { accepted, refused }: Row<Facts>): void {
  describe(name, () => {
    test.each(accepted.map((facts) => [JSON.stringify(facts), facts] as const))("accepts %s", (_, facts) => {
      expect(gate.check(facts)).toBeNull();
      expect(() => gates.enforce(gate, facts)).not.toThrow();
    });
    test.each(refused.map(([facts, why]) => [JSON.stringify(facts), facts, why] as const))(
      "refuses %s",
      (_, facts, why) => {
        expect(gate.check(facts)).toContain(why);
        expect(() => gates.enforce(gate, facts)).toThrow(BangerError);
      },
    );
    test("says its rule and what it stops", () => {
      expect(gate.rule.length).toBeGreaterThan(10);
      expect(gate.stops.length).toBeGreaterThan(10);
    });
  });
}

table("bridgeName", gates.bridgeName, {
  accepted: ["br-fc", "br-fc-a", "br-fc-1", "br-fc-lab-2", "br-fc-123456789"].map((bridge) => ({ bridge })),
  refused: [
    "eth0",
    "lo",
    "docker0",
    "br-",
    "br-fcx",
    "br-fc-",
    "br-fc--",
    "br-fc-a-",
    "br-fc-1234567890",
    "br-FC",
    "xbr-fc",
    "br-fc\n",
    "br-fc ",
    "br-fc;id",
    "",
    "-br-fc",
  ].map((bridge) => [{ bridge }, "is not the name of"] as const),
});

table("tapName", gates.tapName, {
  accepted: ["tap-pool-0", "tap-pool-7", "tap-pool-123456", "tap-fc-a", "tap-fc-0123abcd"].map((tap) => ({ tap })),
  refused: [
    "tap0",
    "eth0",
    "tap-pool-",
    "tap-pool-x",
    "tap-pool-01",
    "tap-pool-1234567",
    "tap-fc-",
    "tap-fc-0123abcde",
    "tap-fc-../../x",
    "tap-fc-A",
    "tap-fc-a\n",
    "xtap-fc-a",
    "--help",
    "",
  ].map((tap) => [{ tap }, "is not the name of"] as const),
});

table("optionalTapName", gates.optionalTapName, {
  accepted: [{ tap: null }, { tap: "tap-pool-1" }],
  refused: [
    [{ tap: "eth0" }, "is not the name of"],
    [{ tap: "" }, "is not the name of"],
  ],
});

table("bridgeAddress", gates.bridgeAddress, {
  accepted: [
    { ip: "172.16.0.1", prefix: 24 },
    { ip: "10.0.0.1", prefix: 8 },
    { ip: "172.31.255.254", prefix: 12 },
    { ip: "192.168.255.1", prefix: 16 },
    { ip: "10.1.2.3", prefix: 32 },
  ],
  refused: [
    [{ ip: "172.16.0.1", prefix: 7 }, "not between 8 and 32"],
    [{ ip: "172.16.0.1", prefix: 33 }, "not between 8 and 32"],
    [{ ip: "172.16.0.1", prefix: 0 }, "not between 8 and 32"],
    [{ ip: "172.16.0.1", prefix: 24.5 }, "not between 8 and 32"],
    [{ ip: "172.16.0.1", prefix: 8 }, "not entirely private"],
    [{ ip: "192.168.0.1", prefix: 15 }, "not entirely private"],
    [{ ip: "8.8.8.8", prefix: 24 }, "not entirely private"],
    [{ ip: "127.0.0.1", prefix: 8 }, "not entirely private"],
    [{ ip: "169.254.1.1", prefix: 16 }, "not entirely private"],
    [{ ip: "224.0.0.1", prefix: 24 }, "not entirely private"],
    [{ ip: "0.0.0.0", prefix: 8 }, "not entirely private"],
    [{ ip: "172.16.0.0", prefix: 24 }, "network or broadcast address"],
    [{ ip: "172.16.0.255", prefix: 24 }, "broadcast"],
    [{ ip: "172.16.0.256", prefix: 24 }, "not an IPv4"],
    [{ ip: "172.16.0.01", prefix: 24 }, "not an IPv4"],
    [{ ip: "0254.020.0.1", prefix: 24 }, "not an IPv4"],
    [{ ip: "172.16.1", prefix: 24 }, "not an IPv4"],
    [{ ip: "172.16.0.1/8", prefix: 24 }, "not an IPv4"],
    [{ ip: "::1", prefix: 24 }, "not an IPv4"],
    [{ ip: "172.16.0.1\n", prefix: 24 }, "not an IPv4"],
    [{ ip: "", prefix: 24 }, "not an IPv4"],
  ],
});

const ours = { ip: "172.16.0.1", prefix: 24, bridge: "br-fc" };
table("subnetFree", gates.subnetFree, {
  accepted: [
    { ...ours, routes: [] },
    { ...ours, routes: [{ destination: "172.16.0.0/24", device: "br-fc" }] },
    {
      ...ours,
      routes: [
        { destination: "172.17.0.0/16", device: "docker0" },
        { destination: "172.16.1.0/24", device: "eth0" },
      ],
    },
    { ...ours, routes: [{ destination: "fe80::/64", device: "eth0" }] },
  ],
  refused: [
    [{ ...ours, routes: [{ destination: "172.16.0.0/12", device: "tun0" }] }, "172.16.0.0/12 on tun0"],
    [{ ...ours, routes: [{ destination: "172.16.0.77", device: "eth0" }] }, "172.16.0.77 on eth0"],
    [{ ...ours, routes: [{ destination: "172.16.0.128/25", device: "br-fc-b" }] }, "br-fc-b"],
    [{ ...ours, ip: "x", routes: [] }, "not a subnet"],
  ],
});

const bridgeLink = { name: "br-fc", kind: "bridge", tunType: null, master: null, alias: "banger bridge" };
table("realBridge", gates.realBridge, {
  accepted: [
    { link: bridgeLink, ports: [] },
    { link: bridgeLink, ports: ["tap-pool-1", "tap-fc-a"] },
  ],
  refused: [
    [{ link: { ...bridgeLink, kind: null }, ports: [] }, "not a bridge"],
    [{ link: { ...bridgeLink, kind: "dummy" }, ports: [] }, "not a bridge"],
    [{ link: bridgeLink, ports: ["tap-pool-1", "eth0"] }, "has a port that is not a banger tap: eth0"],
    [{ link: { ...bridgeLink, alias: "" }, ports: [] }, "not made by banger"],
    [{ link: { ...bridgeLink, alias: "banger guest 172.16.0.2" }, ports: [] }, "not made by banger"],
  ],
});

const tapLink = {
  name: "tap-pool-1",
  kind: "tun",
  tunType: "tap",
  master: "br-fc",
  alias: "banger guest 172.16.0.2",
};
table("realTap", gates.realTap, {
  accepted: [{ link: tapLink }, { link: { ...tapLink, master: null } }],
  refused: [
    [{ link: { ...tapLink, kind: "dummy", tunType: null } }, "not a tap"],
    [{ link: { ...tapLink, tunType: "tun" } }, "not a tap"],
    [{ link: { ...tapLink, kind: null, tunType: null } }, "not a tap"],
    [{ link: { ...tapLink, master: "br-lan" } }, "is a port of br-lan"],
    [{ link: { ...tapLink, alias: "" } }, "not made by banger"],
    [{ link: { ...tapLink, alias: "banger bridge" } }, "not made by banger"],
    [{ link: { ...tapLink, alias: "banger guest 172.16.0.2 and more" } }, "not made by banger"],
  ],
});

table("roomForInterface", gates.roomForInterface, {
  accepted: [
    { kind: "bridge", there: 3 },
    { kind: "tap", there: 1023 },
  ],
  refused: [
    [{ kind: "bridge", there: 4 }, "already has 4 bridges"],
    [{ kind: "tap", there: 1024 }, "already has 1024 taps"],
  ],
});

table("tapsGuest", gates.tapsGuest, {
  accepted: [{ link: tapLink, guest_ip: "172.16.0.2" }],
  refused: [
    [{ link: tapLink, guest_ip: "172.16.0.3" }, "not made for 172.16.0.3"],
    [{ link: { ...tapLink, alias: "" }, guest_ip: "172.16.0.2" }, "not made for"],
  ],
});

table("guestAddress", gates.guestAddress, {
  accepted: [{ guest_ip: "172.16.0.2" }, { guest_ip: "10.255.255.254" }],
  refused: [
    [{ guest_ip: "8.8.8.8" }, "not private"],
    [{ guest_ip: "127.0.0.1" }, "not private"],
    [{ guest_ip: "172.16.0.2/0" }, "not an IPv4"],
    [{ guest_ip: "0.0.0.0/0" }, "not an IPv4"],
    [{ guest_ip: "172.16.0.2 -j ACCEPT" }, "not an IPv4"],
    [{ guest_ip: "! 172.16.0.2" }, "not an IPv4"],
    [{ guest_ip: "-s" }, "not an IPv4"],
  ],
});

const lan = { bridge: "br-fc", addresses: ["172.16.0.1/24"] };
table("guestInSubnet", gates.guestInSubnet, {
  accepted: [
    { ...lan, guest_ip: "172.16.0.2" },
    { ...lan, guest_ip: "172.16.0.254" },
  ],
  refused: [
    [{ ...lan, guest_ip: "172.16.0.1" }, "not a guest address"],
    [{ ...lan, guest_ip: "172.16.1.2" }, "not a guest address"],
    [{ ...lan, guest_ip: "10.0.0.1" }, "not a guest address"],
    [{ ...lan, addresses: [], guest_ip: "172.16.0.2" }, "not a guest address"],
    [{ ...lan, guest_ip: "x" }, "not a guest address"],
  ],
});

table("resolverAddress", gates.resolverAddress, {
  accepted: [{ resolver: "127.0.0.1" }, { resolver: "127.0.0.1:5300" }, { resolver: "8.8.8.8:65535" }],
  refused: [
    "127.0.0.1:0",
    "127.0.0.1:65536",
    "127.0.0.1:",
    "127.0.0.1:5300:1",
    "127.0.0.1:053",
    "--help",
    "",
    "::1",
    "localhost",
  ].map((resolver) => [{ resolver }, "not IP"] as const),
});

table("resolverIsOurs", gates.resolverIsOurs, {
  accepted: [
    { resolver: "127.0.0.1:5300", addresses: [] },
    { resolver: "127.8.9.10", addresses: [] },
    { resolver: "172.16.0.1:53", addresses: ["172.16.0.1/24"] },
  ],
  refused: [
    [{ resolver: "8.8.8.8", addresses: ["172.16.0.1/24"] }, "neither loopback"],
    [{ resolver: "172.16.0.2", addresses: ["172.16.0.1/24"] }, "neither loopback"],
    [{ resolver: "128.0.0.1", addresses: [] }, "neither loopback"],
    [{ resolver: "x", addresses: [] }, "not IP"],
  ],
});

const file = { label: "x", kind: "file", uid: 1000, mode: 0o600, links: 1 };
table("ownersFile", gates.ownersFile, {
  accepted: [
    { file, ownerUid: 1000 },
    { file: { ...file, links: 3 }, ownerUid: 1000 },
  ],
  refused: [
    [{ file: { ...file, uid: 0 }, ownerUid: 1000 }, "belongs to uid 0"],
    [{ file: { ...file, uid: 1001 }, ownerUid: 1000 }, "belongs to uid 1001"],
    ...["directory", "socket", "block", "other"].map(
      (kind) => [{ file: { ...file, kind }, ownerUid: 1000 }, "not a regular file"] as const,
    ),
  ],
});

table("ownersOnlyFile", gates.ownersOnlyFile, {
  accepted: [{ file, ownerUid: 1000 }],
  refused: [
    [{ file: { ...file, links: 2 }, ownerUid: 1000 }, "has 2 names"],
    [{ file: { ...file, links: 0 }, ownerUid: 1000 }, "has 0 names"],
    [{ file: { ...file, uid: 0 }, ownerUid: 1000 }, "belongs to uid 0"],
    [{ file: { ...file, kind: "block" }, ownerUid: 1000 }, "not a regular file"],
  ],
});

const roots = { ...file, uid: 0, mode: 0o644 };
table("rootsFile", gates.rootsFile, {
  accepted: [{ file: roots }, { file: { ...roots, mode: 0o600 } }],
  refused: [
    [{ file: { ...roots, uid: 1000 } }, "belongs to uid 1000"],
    [{ file: { ...roots, mode: 0o664 } }, "is writable by others"],
    [{ file: { ...roots, mode: 0o646 } }, "is writable by others"],
    [{ file: { ...roots, links: 2 } }, "has 2 names"],
    [{ file: { ...roots, kind: "other" } }, "not a regular file"],
  ],
});

const program = { ...roots, mode: 0o755 };
table("rootsProgram", gates.rootsProgram, {
  accepted: [{ file: program }, { file: { ...program, mode: 0o500 } }],
  refused: [
    [{ file: { ...program, uid: 1000 } }, "belongs to uid 1000"],
    [{ file: { ...program, mode: 0o775 } }, "is writable by others"],
    [{ file: { ...program, mode: 0o4755 } }, "set-uid"],
    [{ file: { ...program, mode: 0o2755 } }, "set-uid"],
    [{ file: { ...program, mode: 0o644 } }, "not executable"],
    [{ file: { ...program, links: 2 } }, "has 2 names"],
  ],
});

const directory = { label: "/x", kind: "directory", uid: 0, mode: 0o755, links: 5 };
table("rootsDirectory", gates.rootsDirectory, {
  accepted: [{ directory }, { directory: { ...directory, mode: 0o700 } }],
  refused: [
    [{ directory: { ...directory, mode: 0o1777 } }, "is writable by others"],
    [{ directory: { ...directory, mode: 0o775 } }, "is writable by others"],
    [{ directory: { ...directory, uid: 1000 } }, "belongs to uid 1000"],
    [{ directory: { ...directory, kind: "file" } }, "not a directory"],
  ],
});

table("ownersDirectory", gates.ownersDirectory, {
  accepted: [{ directory: { ...directory, uid: 1000 }, ownerUid: 1000 }],
  refused: [
    [{ directory, ownerUid: 1000 }, "belongs to uid 0"],
    [{ directory: { ...directory, uid: 1000, kind: "file" }, ownerUid: 1000 }, "not a directory"],
  ],
});

const socket = { ...file, kind: "socket", uid: 200_000 };
table("jailSocket", gates.jailSocket, {
  accepted: [{ file: socket, uid: 200_000 }],
  refused: [
    [{ file: { ...socket, kind: "other" }, uid: 200_000 }, "not a socket"],
    [{ file: { ...socket, kind: "file" }, uid: 200_000 }, "not a socket"],
    [{ file: { ...socket, uid: 1000 }, uid: 200_000 }, "belongs to uid 1000"],
    [{ file: { ...socket, uid: 0 }, uid: 200_000 }, "belongs to uid 0"],
  ],
});

table("allowedSignal", gates.allowedSignal, {
  accepted: ["TERM", "term", "SIGTERM", "sigkill", "Kill", "USR1", "SIGUSR2", "abrt", "hup", "int", "quit"].map(
    (signal) => ({ signal }),
  ),
  refused: ["STOP", "CONT", "SIGSTOP", "9", "", "SIG", "SIGSIGTERM", "TERM\n", "SEGV", "CHLD", "toString"].map(
    (signal) => [{ signal }, "not an allowed signal"] as const,
  ),
});

const vm = "0123456789ab";
const cgroup = `/banger.slice/banger-vms.slice/banger-vm-${vm}.scope`;
const running = { pid: 7, uid: 200_000, comm: "firecracker", cgroup };
table("isVmProcess", gates.isVmProcess, {
  accepted: [{ process: running, uid: 200_000, cgroup }],
  refused: [
    [{ process: { ...running, comm: "sshd" }, uid: 200_000, cgroup }, "is named sshd"],
    [{ process: { ...running, comm: "firecracker) S" }, uid: 200_000, cgroup }, "is named firecracker)"],
    [{ process: { ...running, uid: 0 }, uid: 200_000, cgroup }, "has uid 0"],
    [{ process: { ...running, uid: 200_001 }, uid: 200_000, cgroup }, "has uid 200001"],
    [{ process: running, uid: null, cgroup }, "not the VM's"],
    [{ process: { ...running, cgroup: "/system.slice/ssh.service" }, uid: 200_000, cgroup }, "ssh.service"],
    [{ process: { ...running, cgroup: `${cgroup}/x` }, uid: 200_000, cgroup }, "not in"],
  ],
});

const volume = { name: "fc-rootfs-v", mark: "banger-v", ours: ["banger-base", "banger-cow-v", "fc-rootfs-v-base"] };
table("dmIsOurs", gates.dmIsOurs, {
  accepted: [
    { ...volume, uuid: "banger-v", parts: [] },
    { ...volume, uuid: "", parts: ["banger-base", "banger-cow-v"] },
    { ...volume, uuid: "", parts: ["fc-rootfs-v-base", "banger-cow-v"] },
  ],
  refused: [
    [{ ...volume, uuid: "LVM-x", parts: ["banger-base"] }, "is marked LVM-x"],
    [{ ...volume, uuid: "banger-w", parts: [] }, "is marked banger-w"],
    [{ ...volume, uuid: "", parts: ["banger-base", "vda"] }, "uses vda"],
    [{ ...volume, uuid: "", parts: ["banger-cow-w"] }, "uses banger-cow-w"],
    [{ ...volume, uuid: "", parts: [] }, "uses no device"],
  ],
});

table("jailsMount", gates.jailsMount, {
  accepted: [{ label: "/j", options: ["rw", "nosuid", "nodev", "noexec", "relatime"] }],
  refused: [
    [{ label: "/j", options: ["rw", "relatime"] }, "/j is not mounted nosuid, nodev, noexec"],
    [{ label: "/j", options: ["rw", "nosuid", "noexec"] }, "not mounted nodev; to mount it: sudo banger"],
    [{ label: "/j", options: ["nosuidx", "nodev", "noexec"] }, "not mounted nosuid"],
  ],
});

table("kernelsFileSystem", gates.kernelsFileSystem, {
  accepted: [
    { label: "/s", type: "ext4" },
    { label: "/s", type: "xfs" },
  ],
  refused: [
    [{ label: "/s", type: "fuse" }, "/s is a fuse mount"],
    [{ label: "/s", type: "fuse.sshfs" }, "fuse.sshfs"],
    [{ label: "/s", type: "fuseblk" }, "fuseblk"],
  ],
});

table("programIsStatic", gates.programIsStatic, {
  accepted: [{ label: "firecracker", isStatic: true }],
  refused: [[{ label: "firecracker", isStatic: false }, "firecracker is not statically linked"]],
});
test("every gate of the module stands in a table here", async () => {
  const source = await Bun.file(import.meta.path).text();
  const names = Object.entries(gates).flatMap(([name, value]) =>
    typeof value === "object" && "check" in value ? [name] : [],
  );
  expect(names.length).toBeGreaterThan(20);
  for (const name of names) expect(source).toContain(`table("${name}", gates.${name},`);
});
