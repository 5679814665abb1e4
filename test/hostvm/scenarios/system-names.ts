import { doesNotMatch, equal, match, ok } from "node:assert/strict";
import type { Scenario } from "../scenario.ts";
import { askHelper } from "../support/guests.ts";
import { install, mainPid, stretchStartLimit } from "../support/installed.ts";

const ATTACK_S = 35;
const STOP = "/tmp/names-end";
const TAKEN = "grep -q '0100007F:A445' /proc/net/udp";
/** The address that the other user wants names to resolve to: a documentation address. */
const LIE = "192.0.2.66";

/** Another user's program: takes the port as soon as it is free, and answers every question with its own address. */
const THIEF = `
import json, os, select, socket, sys
stop, lie = sys.argv[1:]
tries, bound, asked, s = 0, 0, 0, None
while not os.path.exists(stop):
    if s is None:
        for _ in range(500):
            tries += 1
            one = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                one.bind(("127.0.0.1", 42053))
                s = one
                bound += 1
                break
            except OSError:
                one.close()
    elif select.select([s], [], [], 0.2)[0]:
        query, peer = s.recvfrom(1500)
        asked += 1
        end = 12
        while query[end]: end += query[end] + 1
        question = query[12:end + 5]
        isA = question[-4:-2] == b"\\0\\1"
        answer = query[:2] + b"\\x85\\x80\\0\\1" + (b"\\0\\1" if isA else b"\\0\\0") + b"\\0\\0\\0\\0" + question
        if isA: answer += b"\\xc0\\x0c\\0\\1\\0\\1\\0\\0\\0\\x05\\0\\x04" + socket.inet_aton(lie)
        s.sendto(answer, peer)
print(json.dumps({"tries": tries, "bound": bound, "asked": asked}))
`;
/** Opens a guest's tap, because systemd-resolved asks nothing about a bridge without a carrier. */
const CARRIER = `
import fcntl, os, struct, sys, time
fd = os.open("/dev/net/tun", os.O_RDWR)
fcntl.ioctl(fd, 0x400454ca, struct.pack("16sH22x", sys.argv[1].encode(), 0x1002))
while not os.path.exists(sys.argv[2]): time.sleep(0.2)
`;
const TAP = "tap-fc-names";
const IS_ROUTED = "resolvectl domain br-fc | grep -q '~vm'";

interface Theft {
  readonly tries: number;
  readonly bound: number;
  readonly asked: number;
}

export const scenario: Scenario = {
  name: "system-names",
  summary: "only the daemon answers for names below .vm, even if another user takes its port while it is down",
  needs: ["banger"],
  async run(host) {
    await install(host);
    const routed = async (): Promise<boolean> => /~vm/.test(await host.ok(["resolvectl", "domain", "br-fc"]));
    const lookUp = async (): Promise<string> =>
      (await host.run(["getent", "hosts", "box.vm"], { timeoutMs: 60_000 })).stdout;
    const steal = async (): Promise<() => Promise<Theft>> => {
      await host.ok(["rm", "-f", STOP]);
      const running = host.ok(["python3", "-c", THIEF, STOP, LIE], { user: "other", timeoutMs: 400_000 });
      return async () => {
        await host.ok(["touch", STOP]);
        return JSON.parse(await running) as Theft;
      };
    };
    await askHelper(host, "priv.ensure_bridge", { bridge: "br-fc", ip: "172.29.0.1", prefix: 16 });
    await askHelper(host, "priv.create_tap", { tap: TAP, bridge: "br-fc", guest_ip: "172.29.0.2" });
    await host.ok(["rm", "-f", `${STOP}-carrier`]);
    const carrier = host.run(["python3", "-c", CARRIER, TAP, `${STOP}-carrier`], { timeoutMs: 600_000 });
    try {
      // The attack works if names are looked up at a port that the other user has.
      await host.ok(["systemctl", "stop", "bangerd.service", "bangerd.socket"]);
      let stop = await steal();
      await host.until("the port is taken", TAKEN, 60_000);
      await host.sh(
        "resolvectl default-route br-fc no; resolvectl domain br-fc ~vm; resolvectl dns br-fc 127.0.0.1:42053",
      );
      await host.until("the lie is told", `getent hosts box.vm | grep -q ${LIE.replaceAll(".", "\\.")}`, 60_000);
      await host.ok(["resolvectl", "revert", "br-fc"]);
      await stop();
      await host.ok(["systemctl", "start", "bangerd.socket", "bangerd.service"], { timeoutMs: 120_000 });

      // What a daemon sets once it has the bridge.
      await askHelper(host, "priv.sync_resolver_routing", { bridge: "br-fc", resolver: "127.0.0.1:42053" });
      equal(await routed(), true);

      stop = await steal();
      let kills = 0;
      for (const end = performance.now() + ATTACK_S * 1000; performance.now() < end; kills++) {
        await host.ok(["kill", "-9", String(await mainPid(host, "bangerd.service"))]);
        doesNotMatch(await lookUp(), /192\.0\.2\.66/, "the other user answered while the daemon was killed");
        await host.ok(["systemctl", "reset-failed", "bangerd.service"]);
        await host.until("the daemon is back", "systemctl is-active --quiet bangerd.service", 60_000);
        doesNotMatch(await lookUp(), /192\.0\.2\.66/);
      }
      let theft = await stop();
      host.note(`${kills} kills: ${JSON.stringify(theft)}`);
      equal(theft.bound, 0, "the port was to be had while the daemon was killed");
      ok(theft.tries > 1000);
      await host.until("the daemon's names are looked up again", IS_ROUTED, 60_000);

      // Stopped for good, by root or after too many failures: the port is free, and nothing points to it.
      stop = await steal();
      await host.ok(["systemctl", "stop", "bangerd.service", "bangerd.socket"]);
      equal(await routed(), false);
      await host.until("the port is taken", TAKEN, 60_000);
      doesNotMatch(await lookUp(), /192\.0\.2\.66/);
      // A daemon that didn't get its port directs no lookups to it.
      await host.ok(["systemctl", "start", "bangerd.socket", "bangerd.service"], { timeoutMs: 120_000 });
      equal(await routed(), false);
      doesNotMatch(await lookUp(), /192\.0\.2\.66/);
      theft = await stop();
      equal(theft.asked, 0);
      await host.ok(["systemctl", "restart", "bangerd.service"], { timeoutMs: 120_000 });
      await host.until("the restarted daemon's names are looked up again", IS_ROUTED, 60_000);
      match(await host.ok(["resolvectl", "dns", "br-fc"]), /127\.0\.0\.1:42053/);

      stop = await steal();
      const unstretch = await stretchStartLimit(host);
      await host.sh(`
        for try in $(seq 300); do
          [ "$(systemctl is-failed bangerd.service)" != failed ] || exit 0
          systemctl kill --signal=KILL bangerd.service || true
          sleep 0.1
        done
        exit 1
      `);
      await unstretch();
      equal(await routed(), false);
      doesNotMatch(await lookUp(), /192\.0\.2\.66/);
      theft = await stop();
      equal(theft.asked, 0);
    } finally {
      await host.ok(["touch", `${STOP}-carrier`]);
      await carrier;
      await host.sh(
        "touch $1; systemctl reset-failed bangerd.service bangerd.socket || true; systemctl start bangerd.socket; ip link delete $2; ip link delete br-fc",
        [STOP, TAP],
      );
    }
  },
};
