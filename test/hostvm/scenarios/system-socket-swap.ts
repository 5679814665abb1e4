import { deepEqual, equal, ok } from "node:assert/strict";
import type { Scenario } from "../scenario.ts";
import { BANGER, install, mainPid, stretchStartLimit } from "../support/installed.ts";

const SOCKET = "/run/banger/bangerd.sock";
/** Root's file, the target of the attack. */
const VICTIM = "/root/swap-victim";
const STOP = "/tmp/swap-ends";
const ATTACK_S = 35;

/** The owner's part, in a tight loop: puts a link to the victim in the socket's place, between bind and chown. */
const SWAP = `
import json, os, stat, sys
socket, victim, stop = sys.argv[1:]
swaps, refused = 0, 0
while not os.path.exists(stop):
    for _ in range(2000):
        try:
            if stat.S_ISSOCK(os.lstat(socket).st_mode):
                os.rename(socket, socket + ".aside")
                os.symlink(victim, socket)
                swaps += 1
        except PermissionError:
            refused += 1
        except OSError:
            pass
print(json.dumps({"swaps": swaps, "refused": refused}))
`;

/**
 * Root's part: remakes the socket over and over, sometimes after the owner has killed the daemon into its start limit.
 * The daemon is stopped in between, because a socket starts quickly and a daemon doesn't.
 */
const RESTART = `
  end=$((SECONDS + $2)); restarts=0; limits=0
  # On a slow host, until it was made often enough.
  while [ $SECONDS -lt $end ] || { [ $limits = 0 ] || [ $restarts -le 20 ]; } && [ $SECONDS -lt $((end + 120)) ]; do
    [ "$(stat -c %U "$1")" = root ] || break
    systemctl reset-failed bangerd.socket bangerd.service
    if [ $((restarts % 25)) = 5 ]; then
      touch /tmp/swap-kill
      systemctl start --no-block bangerd.service
      for try in $(seq 120); do
        [ "$(systemctl show --value --property=Result bangerd.socket)" != service-start-limit-hit ] || { limits=$((limits + 1)); break; }
        sleep 0.25
      done
      rm /tmp/swap-kill
      systemctl stop bangerd.service
      systemctl reset-failed bangerd.socket bangerd.service
    fi
    systemctl restart bangerd.socket || true
    restarts=$((restarts + 1))
  done
  echo "$restarts $limits $(stat -c %U "$1")"
`;

/** Also the owner's part: while it may, kills its own daemon as soon as it starts. */
const KILL = `
  until [ -e "$1" ]; do
    if [ -e /tmp/swap-kill ]; then
      pid=$(systemctl show --value --property=MainPID bangerd.service)
      [ "$pid" = 0 ] || kill -9 "$pid"
    fi
    sleep 0.1
  done
`;

export const scenario: Scenario = {
  name: "system-socket-swap",
  summary:
    "the owner can't make systemd give away a file of root's by swapping its socket's name, however often it tries",
  needs: ["banger"],
  async run(host) {
    await install(host);
    await host.ok(["systemctl", "stop", "bangerd.service"]);
    const unstretch = await stretchStartLimit(host);
    await host.sh('rm -f "$1" /tmp/swap-kill; touch "$2"; chmod 600 "$2"; chown root: "$2"', [STOP, VICTIM]);
    const timeoutMs = 300_000;
    const swapping = host.ok(["python3", "-c", SWAP, SOCKET, VICTIM, STOP], { user: "dev", timeoutMs });
    const killing = host.run(["bash", "--norc", "-c", KILL, "bash", STOP], { user: "dev", timeoutMs });
    let said: string;
    try {
      said = await host.sh(RESTART, [VICTIM, String(ATTACK_S)], { timeoutMs });
    } finally {
      await host.ok(["touch", STOP]);
      await killing;
      await unstretch();
    }
    const { swaps, refused } = JSON.parse(await swapping) as { readonly swaps: number; readonly refused: number };
    host.note(`restarts, start limits, owner: ${said.trim()}; ${swaps} exchanges, ${refused} refused`);
    const [restarts = "", limits = "", owner] = said.trim().split(" ");
    equal(owner, "root", "a file of root's is the owner's now");
    equal(swaps, 0);
    ok(refused > 0, "the owner never tried");
    ok(Number(restarts) > 20, `the socket was made ${restarts} times only`);
    ok(Number(limits) > 0, "the daemon never met its start limit");

    // An update and systemd-tmpfiles repair the files of an earlier install, whatever the owner left there.
    await host.sh(
      `
      systemctl reset-failed bangerd.socket bangerd.service
      systemctl restart bangerd.socket bangerd.service
      install -d -o dev -g dev -m 700 /run/banger/owner/vms/0123456789ab
      mv /run/banger/owner/vms /run/banger/vms
      chown dev: /run/banger; chmod 700 /run/banger
      ln -sfn "$1" /run/banger/bangerd.sock
      sed -i 's/^# Written/# Once written/' /etc/tmpfiles.d/banger.conf
    `,
      [VICTIM],
    );
    await install(host);
    deepEqual(
      (
        await host.ok([
          "stat",
          "-c",
          "%n %a %U %F",
          "/run/banger",
          SOCKET,
          "/run/banger/owner",
          "/run/banger/owner/vms/0123456789ab",
          VICTIM,
        ])
      )
        .trim()
        .split("\n"),
      [
        "/run/banger 711 root directory",
        `${SOCKET} 600 dev socket`,
        "/run/banger/owner 700 dev directory",
        "/run/banger/owner/vms/0123456789ab 700 dev directory",
        `${VICTIM} 600 root regular empty file`,
      ],
    );
    ok((await mainPid(host, "bangerd.service")) > 0);
    await host.ok([BANGER, "ps"], { user: "dev" });
    await host.ok(["rm", "-r", VICTIM, STOP, "/run/banger/owner/vms/0123456789ab"]);
  },
};
