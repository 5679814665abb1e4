import { deepEqual, equal, match, ok } from "node:assert/strict";
import type { Scenario } from "../scenario.ts";
import { install, mainPid } from "../support/installed.ts";

/** The exposure that `systemd-analyze security` reports: it may fall, not rise. */
const EXPOSURE = { "bangerd-root.service": 4.6, "bangerd.service": 1.9 } as const;
/** CHOWN, DAC_OVERRIDE, FOWNER, KILL, SETGID, SETUID, NET_ADMIN, SYS_ADMIN, MKNOD. Source: linux/capability.h */
const HELPER_CAPABILITIES = [0, 1, 3, 5, 6, 7, 12, 21, 27].reduce((mask, bit) => mask | (1n << BigInt(bit)), 0n);

const CONNECT = `
import socket, sys
for path in sys.argv[1:]:
    try:
        socket.socket(socket.AF_UNIX).connect(path)
        print(path, "connected")
    except OSError as error:
        print(path, error.errno)
`;

export const scenario: Scenario = {
  name: "system-security",
  summary:
    "each service has only the privileges it needs; a second user reaches nothing, and the owner nothing of root's",
  needs: ["banger"],
  async run(host) {
    await install(host);
    for (const [unit, most] of Object.entries(EXPOSURE)) {
      const said = await host.sh('systemd-analyze security --no-pager "$1" | tail -1', [unit]);
      const found = Number(/: ([\d.]+) /.exec(said)?.[1]);
      ok(found <= most, `${unit} is exposed to ${found}, more than ${most}`);
    }
    const statusOf = async (unit: string): Promise<ReadonlyMap<string, string>> => {
      const text = await host.readFile(`/proc/${await mainPid(host, unit)}/status`);
      return new Map(text.split("\n").map((line) => line.split(/:\s+/, 2) as [string, string]));
    };
    const daemon = await statusOf("bangerd.service");
    for (const set of ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"])
      equal(BigInt(`0x${daemon.get(set)}`), 0n, `the daemon's ${set}`);
    const helper = await statusOf("bangerd-root.service");
    equal(BigInt(`0x${helper.get("CapBnd")}`), HELPER_CAPABILITIES);
    for (const status of [daemon, helper]) {
      equal(status.get("NoNewPrivs"), "1");
      equal(status.get("Seccomp"), "2");
    }
    for (const unit of ["bangerd.service", "bangerd-root.service"]) {
      const limits = await host.ok(["systemctl", "show", "-p", "MemoryMax,TasksMax,MemoryCurrent,TasksCurrent", unit]);
      const limit = (name: string): number => Number(new RegExp(`^${name}=(\\d+)$`, "m").exec(limits)?.[1]);
      for (const what of ["Memory", "Tasks"])
        ok(limit(`${what}Current`) < limit(`${what}Max`) / 4, `${unit}: ${limits.replaceAll("\n", ", ")}`);
      match(await host.readFile(`/proc/${await mainPid(host, unit)}/limits`), /^Max core file size +0 +0 /m);
      const environment = (await host.readFile(`/proc/${await mainPid(host, unit)}/environ`)).split("\0");
      deepEqual(
        environment.filter((entry) => /^(BUN|NODE|LD|SSL)_/.test(entry)),
        [],
      );
    }

    const sockets = ["/run/banger/bangerd.sock", "/run/banger-root/bangerd-root.sock"];
    const connect = async (user: "dev" | "other") => await host.ok(["python3", "-c", CONNECT, ...sockets], { user });
    // EACCES
    equal(await connect("other"), sockets.map((path) => `${path} 13\n`).join(""));
    equal(await connect("dev"), sockets.map((path) => `${path} connected\n`).join(""));
    for (const path of [
      "/var/lib/banger",
      "/var/lib/banger/owner",
      "/var/lib/banger/slots",
      "/var/cache/banger",
      "/run/banger",
      "/run/banger/owner",
    ])
      match((await host.run(["ls", path], { user: "other" })).stderr, /Permission denied/, path);

    const attempts = [
      "echo uid = 0 >> /etc/banger/install.toml",
      "mv /etc/banger/install.toml /etc/banger/other.toml",
      "mv /run/banger-root/bangerd-root.sock /run/banger-root/mine",
      "mv /run/banger/bangerd.sock /run/banger/mine",
      "mv /run/banger/owner /run/banger/mine",
      "ln -s /etc /run/banger/mine",
      "mkdir /run/banger-root/mine",
      "mv /var/lib/banger/jail /var/lib/banger/mine",
      "ln -s /etc /var/lib/banger/jail/firecracker",
      "touch /var/lib/banger/cow/0123456789ab.cow",
      "ls /var/lib/banger/slots",
      "ln -sf /bin/sh /usr/local/bin/bangerd-root",
      "touch /usr/local/lib/banger/firecracker/mine || touch /usr/local/lib/banger/mine",
      "systemctl stop bangerd-root.service",
    ];
    for (const attempt of attempts) {
      const result = await host.run(["bash", "--norc", "-c", attempt], { user: "dev" });
      ok(result.status !== 0, `the owner could: ${attempt}`);
    }
  },
};
