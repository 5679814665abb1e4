/** A network beyond a test host, for scenarios that test what gets out. */

import type { Host } from "../host.ts";

/**
 * A namespace behind the default route that has no route back to guests, so an answer proves that addresses were
 * translated.
 */
export const OUTSIDE = "192.0.2.2";

/** Makes the outside network, with a web server. */
export async function makeOutside(host: Host): Promise<void> {
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

/** Removes it and restores routes and policies. */
export async function removeOutside(host: Host): Promise<void> {
  await host.sh(`
    systemctl stop outside-web || true
    ip route del default via ${OUTSIDE} || true
    while read -r route; do ip route add $route; done < /run/default-route
    ip link del up0 || true
    ip netns del outside || true
    iptables -P FORWARD ACCEPT
  `);
}
