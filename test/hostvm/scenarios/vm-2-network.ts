import { deepEqual, equal, match, notEqual } from "node:assert/strict";
import type { Host } from "../host.ts";
import type { Scenario } from "../scenario.ts";
import { banger, bangerOk, BOOT_TIMEOUT_MS, ensureVm, inventory } from "../support/guests.ts";
import { makeOutside, OUTSIDE, removeOutside } from "../support/outside.ts";

/**
 * Whether a guest gets an answer from that address. Uses bash, which is in every guest. No answer takes all its 20 s, so
 * ask about several at once.
 */
async function reaches(host: Host, vm: string, address: string): Promise<boolean> {
  const script = `exec 3<>/dev/tcp/${address}/8080 && printf 'GET / HTTP/1.0\\r\\n\\r\\n' >&3 && head -1 <&3`;
  const result = await banger(host, "vm", "exec", vm, "--", "timeout", "20", "bash", "-c", script);
  return result.stdout.includes("200 OK");
}
/** Which of the two guests get an answer from outside. */
async function whoGetsOut(host: Host): Promise<readonly string[]> {
  const names = ["alpha", "beta"];
  const answers = await Promise.all(names.map(async (vm) => await reaches(host, vm, OUTSIDE)));
  return names.filter((_, index) => answers[index]);
}

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
      deepEqual(await whoGetsOut(host), []);

      await bangerOk(host, "vm", "set", "beta", "--nat");
      deepEqual(
        (await inventory(host)).nat_rules.map(({ guest_ip }) => guest_ip),
        [beta.guestIp],
      );
      // The host's own services, at each of its addresses; the host's own processes may reach them.
      await host.sh(`systemd-run --quiet --unit host-web python3 -m http.server 8080`);
      await host.until("the host's web server", "curl -s -o /dev/null http://10.0.2.15:8080/", 60_000);
      const ownAddresses = [alpha.guestIp.replace(/\.\d+$/, ".1"), "10.0.2.15", "192.0.2.1"];
      const inside = ownAddresses.flatMap((address) => ["alpha", "beta"].map((vm) => [vm, address] as const));
      const [out, ...reached] = await Promise.all([
        whoGetsOut(host),
        ...inside.map(async ([vm, address]) => ((await reaches(host, vm, address)) ? [`${vm} to ${address}`] : [])),
      ]);
      deepEqual(out, ["beta"]);
      deepEqual(reached.flat(), []);
      // The host forwards only for guests, through these two interfaces.
      equal(await host.readFile("/proc/sys/net/ipv4/ip_forward"), "0\n");

      // As a firewalld reload does: all rules are gone, without notice.
      await host.sh("iptables -F; iptables -t nat -F; iptables -P FORWARD DROP");
      await host.until("the accepts are back", "iptables-save | grep -q -- '-A BANGER-FORWARD'", 180_000);
      deepEqual(await whoGetsOut(host), ["beta"]);

      // This shuts every guest in until the daemon's next check: without a rule of banger's, nothing gets out.
      await host.sh("nft flush ruleset");
      // One check puts back both: NAT, and the taps' chains, which mark what may leave.
      const isBack = `nft list set inet banger guests | grep -q ${beta.guestIp} && nft list table netdev banger > /dev/null`;
      const [isOut] = await Promise.all([
        reaches(host, "alpha", OUTSIDE),
        host.until("the tables are back", isBack, 180_000),
      ]);
      equal(isOut, false);
      deepEqual(await whoGetsOut(host), ["beta"]);

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
      deepEqual(await whoGetsOut(host), []);
    } finally {
      await host.sh("systemctl stop host-web || true");
      await removeOutside(host);
    }
  },
};
