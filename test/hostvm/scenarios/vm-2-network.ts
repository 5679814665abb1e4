import { deepEqual, equal, match, notEqual } from "node:assert/strict";
import type { Host } from "../host.ts";
import type { Scenario } from "../scenario.ts";
import { banger, bangerOk, BOOT_TIMEOUT_MS, ensureVm, inventory } from "../support/guests.ts";
import { makeOutside, OUTSIDE, removeOutside } from "../support/outside.ts";

/** Whether a guest gets an answer from that address. Uses bash, which is in every guest. */
async function reaches(host: Host, vm: string, address: string): Promise<boolean> {
  const script = `exec 3<>/dev/tcp/${address}/8080 && printf 'GET / HTTP/1.0\\r\\n\\r\\n' >&3 && head -1 <&3`;
  const result = await banger(host, "vm", "exec", vm, "--", "timeout", "20", "bash", "-c", script);
  return result.stdout.includes("200 OK");
}
const reachesOut = async (host: Host, vm: string): Promise<boolean> => await reaches(host, vm, OUTSIDE);

export const scenario: Scenario = {
  name: "vm-network",
  summary:
    "only guests with NAT get out, even under a Docker-like FORWARD DROP and after a flush of every rule; the host is closed; .vm names resolve",
  needs: ["banger", "firecracker", "image"],
  timeoutMs: 3 * BOOT_TIMEOUT_MS,
  async run(host) {
    await makeOutside(host);
    try {
      await host.sh("iptables -P FORWARD DROP");
      const alpha = await ensureVm(host, "alpha");
      const beta = await ensureVm(host, "beta");
      notEqual(alpha.guestIp, beta.guestIp);
      equal(await reachesOut(host, "alpha"), false);

      await bangerOk(host, "vm", "set", "beta", "--nat");
      deepEqual(
        (await inventory(host)).nat_rules.map(({ guest_ip }) => guest_ip),
        [beta.guestIp],
      );
      equal(await reachesOut(host, "beta"), true);
      equal(await reachesOut(host, "alpha"), false);

      // The host's own services, at each of its addresses; the host's own processes may reach them.
      await host.sh(`systemd-run --quiet --unit host-web python3 -m http.server 8080`);
      await host.until("the host's web server", "curl -s -o /dev/null http://10.0.2.15:8080/", 60_000);
      for (const address of [alpha.guestIp.replace(/\.\d+$/, ".1"), "10.0.2.15", "192.0.2.1"]) {
        for (const vm of ["alpha", "beta"]) equal(await reaches(host, vm, address), false, `${vm} to ${address}`);
      }
      // The host forwards only for guests, through these two interfaces.
      equal(await host.readFile("/proc/sys/net/ipv4/ip_forward"), "0\n");

      // As a firewalld reload does: all rules are gone, without notice.
      await host.sh("iptables -F; iptables -t nat -F; iptables -P FORWARD DROP");
      await host.until("the accepts are back", "iptables-save | grep -q -- '-A BANGER-FORWARD'", 180_000);
      equal(await reachesOut(host, "beta"), true);
      equal(await reachesOut(host, "alpha"), false);

      // This shuts every guest in until the daemon's next check: without a rule of banger's, nothing gets out.
      await host.sh("nft flush ruleset");
      equal(await reachesOut(host, "alpha"), false);
      // NAT and the taps' chains, which mark what may leave, are checked each at its own time.
      const isBack = `nft list set inet banger guests | grep -q ${beta.guestIp} && nft list table netdev banger > /dev/null`;
      await host.until("the tables are back", isBack, 180_000);
      equal(await reachesOut(host, "beta"), true);
      equal(await reachesOut(host, "alpha"), false);

      for (const vm of [alpha, beta]) {
        match(
          await host.ok(["getent", "ahostsv4", `${vm.name}.vm`]),
          new RegExp(`^${vm.guestIp.replaceAll(".", "\\.")} `),
        );
      }
      notEqual((await host.run(["getent", "hosts", "nobody.vm"])).status, 0);

      await bangerOk(host, "vm", "set", "beta", "--no-nat");
      const { nat_rules, walls } = await inventory(host);
      deepEqual([nat_rules, walls.filter((wall) => /^(?:sysctl|iptables)/.test(wall))], [[], []]);
      equal(await reachesOut(host, "beta"), false);
    } finally {
      await host.sh("systemctl stop host-web || true");
      await removeOutside(host);
    }
  },
};
