import { equal, match, notEqual } from "node:assert/strict";
import type { Host } from "../host.ts";
import type { Scenario } from "../scenario.ts";
import { banger, bangerOk, BOOT_TIMEOUT_MS, ensureVm, inventory } from "../support/guests.ts";

/**
 * A network beyond the host: a namespace behind the default route, which knows no way back to guests, so that what
 * answers proves that addresses were translated.
 */
const OUTSIDE = "192.0.2.2";

async function makeOutside(host: Host): Promise<void> {
  await host.sh(`
    ip netns add outside
    ip link add up0 type veth peer name up1 netns outside
    ip address add 192.0.2.1/24 dev up0 && ip link set up0 up
    ip -n outside address add ${OUTSIDE}/24 dev up1 && ip -n outside link set up1 up && ip -n outside link set lo up
    ip route show default > /run/default-route
    ip route replace default via ${OUTSIDE} dev up0
    systemd-run --quiet --unit outside-web --property NetworkNamespacePath=/run/netns/outside \
      python3 -c 'import http.server; http.server.test(http.server.SimpleHTTPRequestHandler, bind="${OUTSIDE}", port=8080)'
  `);
  await host.until("the web server outside", `curl -s -o /dev/null --max-time 5 http://${OUTSIDE}:8080/`, 60_000);
}

async function removeOutside(host: Host): Promise<void> {
  await host.sh(`
    systemctl stop outside-web || true
    ip route del default via ${OUTSIDE} || true
    while read -r route; do ip route add $route; done < /run/default-route
    ip link del up0 || true
    ip netns del outside || true
    iptables -P FORWARD ACCEPT
  `);
}

/** Whether a guest gets an answer from outside; bash is in every guest, and needs no other tool for it. */
async function reachesOut(host: Host, vm: string): Promise<boolean> {
  const script = `exec 3<>/dev/tcp/${OUTSIDE}/8080 && printf 'GET / HTTP/1.0\\r\\n\\r\\n' >&3 && head -1 <&3`;
  const result = await banger(host, "vm", "exec", vm, "--", "timeout", "20", "bash", "-c", script);
  return result.stdout.includes("200 OK");
}

export const scenario: Scenario = {
  name: "vm-network",
  summary:
    "NAT only for those who have it, under a Docker-like FORWARD DROP and after a firewall flush; names under .vm",
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
      const rules = (await inventory(host)).nat_rules;
      equal(rules.length > 0 && rules.every((rule) => rule.includes(beta.guestIp) || rule.includes("tap-")), true);
      equal(await reachesOut(host, "beta"), true);
      equal(await reachesOut(host, "alpha"), false);

      // What a firewalld reload does: everything is gone, without a word.
      await host.sh("iptables -F; iptables -t nat -F; iptables -P FORWARD DROP");
      await host.until("the rules are back", `iptables-save | grep -q ${beta.guestIp}`, 180_000);
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
      equal((await inventory(host)).nat_rules.length, 0);
      equal(await reachesOut(host, "beta"), false);
    } finally {
      await removeOutside(host);
    }
  },
};
