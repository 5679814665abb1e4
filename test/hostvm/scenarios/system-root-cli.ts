import { doesNotMatch, equal, match, ok } from "node:assert/strict";
import { API_LEVEL } from "../../../src/shared/contract/api-level.ts";
import { VERSION } from "../../../src/shared/version.ts";
import type { Scenario } from "../scenario.ts";
import { BANGER, install } from "../support/installed.ts";

const ATTACK_MS = 30_000;
const DIR = "/srv/obey";

/**
 * The owner's daemon as an attacker controls it, on the socket that systemd handed over. Records the uid of each
 * caller, and answers with a program to run; `mode` selects other answers.
 */
const DAEMON = `
import json, os, socket, struct, threading, time
listener = socket.socket(fileno=3)
listener.setblocking(True)
head = "HTTP/1.1 %s\\r\\ncontent-type: application/json\\r\\nbanger-api-level: ${API_LEVEL}\\r\\nbanger-version: ${VERSION}\\r\\nbanger-op: op-0123456789ab\\r\\n"
vm = {"id": "0123456789ab", "name": "box", "sshArgv": ["${DIR}/program"], "workDir": "/", "state": "running", "address": "127.0.0.1:22"}
evil = "\\x1b]0;mine\\x07\\x1b[31m" + "\\u009b31m"
def serve(peer):
    uid = struct.unpack("3i", peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))[1]
    text = b""
    while b"\\r\\n\\r\\n" not in text:
        more = peer.recv(65536)
        if not more: return
        text += more
    with open("${DIR}/asked", "a") as asked: asked.write("%d %s\\n" % (uid, text.split(b" ")[1].decode()))
    mode = open("${DIR}/mode").read().strip()
    if mode == "redirect":
        peer.sendall((head % "307 T" + "location: http://127.0.0.1:4999/\\r\\ncontent-length: 0\\r\\n\\r\\n").encode())
    elif mode == "endless":
        peer.sendall((head % "200 OK" + "\\r\\n").encode())
        while True: peer.sendall(b" " * 65536)
    elif mode == "headers":
        peer.sendall((head % "200 OK").encode())
        while True: peer.sendall(b"x-more: " + b"y" * 65536 + b"\\r\\n")
    elif mode == "silent":
        time.sleep(600)
    else:
        version = evil if mode == "escape" else "${VERSION}"
        ping = {"version": version, "apiLevel": 1, "minimumApiLevel": 1, "mode": "system", "pid": 7, "uid": 1000, "startedAt": "2026-01-01T00:00:00.000Z", "stateDir": evil, "runtimeDir": evil}
        answer = {"error": {"code": evil, "message": evil}} if mode == "error" else {"result": {**vm, **ping}}
        body = json.dumps(answer, ensure_ascii=False).encode()
        peer.sendall((head % "200 OK" + "content-length: %d\\r\\nconnection: close\\r\\n\\r\\n" % len(body)).encode() + body)
def quietly(peer):
    try: serve(peer)
    except OSError: pass
    peer.close()
while True:
    threading.Thread(target=quietly, args=(listener.accept()[0],), daemon=True).start()
`;

/** Commands that would make root ask the owner's daemon or read the owner's files. */
const REFUSED: readonly (readonly string[])[] = [
  ["exec", "box", "--", "true"],
  ["ssh", "box"],
  ["ssh", "box", "--", "id"],
  ["cp", "box:/etc/hostname", "/tmp/obeyed"],
  ["cp", "/etc/hostname", "box:/tmp/x"],
  ["ps"],
  ["logs", "box"],
  ["doctor"],
  ["gc"],
  ["daemon", "status"],
  ["daemon", "logs"],
  ["vm", "ports", "box"],
  ["vm", "run", "--rm", "--", "true"],
  ["internal", "ssh-proxy", "box.vm"],
  ["internal", "known-hosts", "box.vm"],
];

export const scenario: Scenario = {
  name: "system-root-cli",
  summary: "root's banger asks the owner's daemon nothing, runs nothing it names and prints nothing from it unescaped",
  needs: ["banger"],
  timeoutMs: 15 * 60_000,
  async run(host) {
    await install(host);
    const mode = async (name: string): Promise<void> => void (await host.sh('echo "$1" > "$2/mode"', [name, DIR]));
    await host.sh(
      `
      install -d -m 777 $1
      printf '#!/bin/sh\\nid -u >> $1/ran\\n' > $1/program
      chmod 755 $1/program
      touch $1/ran $1/asked $1/mode
      chmod 666 $1/ran $1/asked
      systemctl stop bangerd.service
      mkdir -p /run/systemd/system/bangerd.service.d
      printf '[Service]\\nType=simple\\nExecStart=\\nExecStart=/usr/bin/python3 $1/daemon.py\\nReadWritePaths=$1\\n' > /run/systemd/system/bangerd.service.d/obey.conf
      `.replaceAll("$1", DIR),
    );
    await host.writeFile(`${DIR}/daemon.py`, DAEMON, 0o644);
    await host.sh("systemctl daemon-reload; systemctl start bangerd.service");
    try {
      await mode("program");
      // The attack works on the owner, as it should: the daemon is the owner's own.
      await host.run([BANGER, "exec", "box", "--", "true"], { user: "dev" });
      equal(await host.readFile(`${DIR}/ran`), "1000\n");
      await host.ok(["truncate", "-s", "0", `${DIR}/asked`]);

      let rounds = 0;
      for (const end = performance.now() + ATTACK_MS; rounds === 0 || performance.now() < end; rounds++) {
        for (const words of REFUSED) {
          const { status, stdout, stderr } = await host.run([BANGER, ...words], { timeoutMs: 60_000 });
          equal(await host.readFile(`${DIR}/ran`), "1000\n", `root ran the owner's program: ${words.join(" ")}`);
          ok(status !== 0, words.join(" "));
          equal(stdout, "");
          match(stderr, /\[NOT_OWNER\]/);
          ok(stderr.includes(`try: sudo -u dev banger ${words.join(" ")}\n`), stderr);
        }
      }
      host.note(`${rounds} rounds of ${REFUSED.length} commands`);
      equal(await host.ok([BANGER, "internal", "complete", "zsh", "--", "exec", ""]), "");
      equal(await host.readFile(`${DIR}/asked`), "", "root asked the owner's daemon");
      await host.ok([BANGER, "version"]);
      await host.ok([BANGER, "explain", "NOT_OWNER"]);

      for (const name of ["escape", "error", "redirect", "endless", "headers", "silent"]) {
        await mode(name);
        const tryHost = async (...words: readonly string[]): Promise<void> => {
          const peak = await host.run(["/usr/bin/python3", "-c", PEAK, BANGER, "system", ...words], {
            timeoutMs: 120_000,
          });
          const what = `${words.join(" ")} of a daemon that is ${name}`;
          // eslint-disable-next-line no-control-regex
          doesNotMatch(peak.stdout + peak.stderr, /[\u0000-\u0008\u000b-\u001f\u007f-\u009f]/, what);
          const kib = Number(/^peak (\d+)$/m.exec(peak.stderr)?.[1]);
          ok(kib > 0 && kib < 400 * 1024, `${what}: ${kib} KiB`);
          ok(peak.status !== 0, what);
        };
        // Each waits for the daemon until its deadline, so they wait together.
        await Promise.all([tryHost("status"), tryHost("status", "--json")]);
        if (name !== "silent") await tryHost("restart");
      }
      match((await host.run([BANGER, "system", "status"])).stdout, /owner daemon +silent/);
    } finally {
      await host.sh(
        `rm -r /run/systemd/system/bangerd.service.d; systemctl daemon-reload; systemctl reset-failed bangerd.service || true; systemctl restart bangerd.service; rm -r ${DIR}`,
      );
    }
    await host.ok([BANGER, "ps"], { user: "dev" });
  },
};

/** Runs a program. Exits with its status, and prints its peak memory in KiB on standard error. */
const PEAK = `
import resource, subprocess, sys
status = subprocess.run(sys.argv[1:]).returncode
print("peak", resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss, file=sys.stderr)
sys.exit(status)
`;
