/**
 * NAT with real connections: two guests on the bridge and an outside network behind the uplink, each a network
 * namespace.
 */

import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { ensureBridgeWalls, ensureNat, removeNat } from "../../src/helper/network/firewall.ts";
import { readRuleset } from "../../src/helper/network/iptables.ts";
import { applyNft, tapWall } from "../../src/helper/network/nft.ts";
import { macOf } from "../../src/shared/network/guest-mac.ts";
import { clearNetwork, ip, iptables, makeHost, run, type TestHost } from "./support.ts";

const WORLD = "192.0.2.1";
const PORT = 7777;
const NAT = { guestIp: "172.16.0.2", tap: "tap-pool-1" };

const inside = (namespace: string, ...argv: readonly string[]): readonly string[] => [
  "/usr/sbin/ip",
  "netns",
  "exec",
  namespace,
  ...argv,
];

/** Makes a namespace at one end of a veth pair whose host end has that name. */
function join(namespace: string, hostEnd: string, address: string, gateway: string | null): void {
  ip("netns", "add", namespace);
  ip("link", "add", hostEnd, "type", "veth", "peer", "name", "eth0", "netns", namespace);
  ip("link", "set", hostEnd, "up");
  ip("-n", namespace, "link", "set", "lo", "up");
  ip("-n", namespace, "address", "add", address, "dev", "eth0");
  if (gateway !== null) ip("-n", namespace, "link", "set", "eth0", "address", macOf(address.split("/")[0] ?? ""));
  ip("-n", namespace, "link", "set", "eth0", "up");
  if (gateway !== null) ip("-n", namespace, "route", "add", "default", "via", gateway);
}

let host: TestHost;
let server: Bun.Subprocess;
beforeAll(async () => {
  host = makeHost();
  ip("link", "set", "lo", "up");
  ip("link", "add", "br-fc", "type", "bridge");
  ip("address", "add", "172.16.0.1/24", "dev", "br-fc");
  ip("link", "set", "br-fc", "up");
  ip("link", "set", "br-fc", "alias", "banger bridge");
  // veth pairs in place of taps: the bridge and the rules treat both as ports.
  join("guest1", "tap-pool-1", "172.16.0.2/24", "172.16.0.1");
  join("guest2", "tap-pool-2", "172.16.0.3/24", "172.16.0.1");
  for (const tap of ["tap-pool-1", "tap-pool-2"]) ip("link", "set", tap, "master", "br-fc");
  join("world", "uplink0", `${WORLD}/24`, null);
  ip("address", "add", "192.0.2.2/24", "dev", "uplink0");
  ip("route", "add", "default", "via", WORLD);
  // The outside network has a route to the guests' addresses: only the rules may keep an untranslated packet from
  // getting an answer.
  ip("-n", "world", "route", "add", "172.16.0.0/24", "via", "192.0.2.2");
  const serve = `Bun.listen({ hostname: "0.0.0.0", port: ${PORT}, socket: { open: (s) => { s.end(s.remoteAddress); }, data() {} } }); console.log("up");`;
  const child = Bun.spawn([...inside("world", process.execPath, "-e", serve)], { stdout: "pipe" });
  await child.stdout.getReader().read();
  server = child;
});
afterAll(async () => {
  server.kill("SIGKILL");
  await server.exited;
  for (const name of ["guest1", "guest2", "world"]) ip("netns", "delete", name);
  clearNetwork();
  host[Symbol.dispose]();
});

/** Puts the walls in place as when the bridge and both taps were made. */
async function raiseWalls(): Promise<void> {
  await ensureBridgeWalls(host.context, "br-fc", "172.16.0.1", await readRuleset());
  for (const [tap, guestIp] of [
    ["tap-pool-1", "172.16.0.2"],
    ["tap-pool-2", "172.16.0.3"],
  ] as const)
    await applyNft(tapWall({ tap, guestIp, bridgeIp: "172.16.0.1" }));
}

/** The source address that the outside network sees for a connection of that guest; `none` if nothing gets through. */
function reach(namespace: string, target = WORLD, source?: string): string {
  const bind = source === undefined ? "" : `localAddress: "${source}",`;
  const script = `const s = require("node:net").connect({ host: "${target}", port: ${PORT}, ${bind} });
    s.on("data", (d) => { console.log(d.toString().replace("::ffff:", "")); process.exit(); });
    s.on("error", (e) => { console.log("none"); process.exit(); });
    setTimeout(() => { console.log("none"); process.exit(); }, 1500);`;
  return run(...inside(namespace, process.execPath, "-e", script)).trim();
}

/** A host as Docker leaves it, and one as a router leaves it. */
const HOSTS: readonly (readonly [string, () => void])[] = [
  ["whose FORWARD accepts", () => iptables("-P", "FORWARD", "ACCEPT")],
  [
    "whose FORWARD drops, with other programs' rules first",
    () => {
      iptables("-P", "FORWARD", "DROP");
      iptables("-I", "FORWARD", "1", "-j", "DROP");
    },
  ],
];

describe.each(HOSTS)("on a host %s", (_, prepare) => {
  beforeAll(async () => {
    await Bun.write("/proc/sys/net/ipv4/ip_forward", "1");
    prepare();
    await raiseWalls();
  });

  test("a guest without NAT sends nothing out, and nothing from outside reaches it", () => {
    expect(reach("guest1")).toBe("none");
    expect(reach("guest2")).toBe("none");
    const serve = `Bun.listen({ hostname: "0.0.0.0", port: ${PORT}, socket: { open: (s) => { s.end("in"); }, data() {} } }); setTimeout(() => process.exit(), 8000);`;
    const listener = Bun.spawn([...inside("guest1", process.execPath, "-e", serve)]);
    Bun.sleepSync(500);
    expect(reach("world", "172.16.0.2")).toBe("none");
    listener.kill("SIGKILL");
  }, 30_000);

  test("a guest with NAT gets out under the host's address; another guest doesn't, even with that guest's address", async () => {
    expect(await ensureNat(host.context, NAT, "br-fc")).toBe("uplink0");
    expect(reach("guest1")).toBe("192.0.2.2");
    expect(reach("guest2")).toBe("none");
    // The other guest takes the address while its owner is silent.
    ip("-n", "guest1", "link", "set", "eth0", "down");
    ip("-n", "guest2", "address", "add", "172.16.0.2/24", "dev", "eth0");
    run(...inside("guest2", process.execPath, "-e", "0"));
    ip("neighbor", "flush", "dev", "br-fc");
    expect(reach("guest2", WORLD, "172.16.0.2")).toBe("none");
    ip("-n", "guest2", "address", "delete", "172.16.0.2/24", "dev", "eth0");
    ip("-n", "guest1", "link", "set", "eth0", "up");
    ip("-n", "guest1", "route", "replace", "default", "via", "172.16.0.1");
    ip("neighbor", "flush", "dev", "br-fc");
    expect(reach("guest1")).toBe("192.0.2.2");
  }, 60_000);

  test("after a firewall's reload, the next call restores it", async () => {
    iptables("-F");
    iptables("-t", "nat", "-F");
    iptables("-X");
    prepare();
    expect(await ensureNat(host.context, NAT, "br-fc")).toBe("uplink0");
    expect(reach("guest1")).toBe("192.0.2.2");
    expect(reach("guest2")).toBe("none");
  }, 30_000);

  test("removing NAT leaves nothing behind", async () => {
    await removeNat(host.context, NAT);
    expect(reach("guest1")).toBe("none");
  }, 30_000);
});
