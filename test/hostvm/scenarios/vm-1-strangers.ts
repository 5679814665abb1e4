import { equal, match, notEqual } from "node:assert/strict";
import type { Scenario } from "../scenario.ts";
import { BOOT_TIMEOUT_MS, ensureVm, inGuest, openSsh } from "../support/guests.ts";

/** Connects to a unix socket and prints the result. */
const CONNECT = `
import socket, sys
s = socket.socket(socket.AF_UNIX)
s.settimeout(5)
try:
    s.connect(sys.argv[1])
    print("connected", repr(s.recv(16)))
except OSError as e:
    print(type(e).__name__)
`;

export const scenario: Scenario = {
  name: "vm-strangers",
  summary: "a second local user, and a process with one VM's uid, can't reach, read, signal or trace a VM or a daemon",
  needs: ["banger", "firecracker", "image"],
  timeoutMs: 2 * BOOT_TIMEOUT_MS,
  async run(host) {
    const vm = await ensureVm(host, "alpha");
    await openSsh(host, "alpha");
    const jail = `/var/lib/banger/jail/firecracker/${vm.id}/root`;
    const uid = Number(/^Uid:\t(\d+)/m.exec(await host.readFile(`/proc/${vm.pid}/status`))?.[1]);
    const asVm = (...argv: readonly string[]): readonly string[] => [
      ...["setpriv", `--reuid=${uid + 1}`, `--regid=${uid + 1}`, "--clear-groups", "--no-new-privs"],
      ...argv,
    ];
    const sockets = [
      "/run/banger/bangerd.sock",
      "/run/banger-root/bangerd-root.sock",
      `/run/banger/owner/vms/${vm.id}/ssh.sock`,
      `${jail}/io/api.sock`,
      `${jail}/io/vsock.sock`,
    ];
    const secrets = [
      "/var/lib/banger/owner/ssh/id_ed25519",
      "/var/lib/banger/owner/banger.db",
      `/var/lib/banger/owner/vms/${vm.id}/work.ext4`,
      `/var/lib/banger/cow/${vm.id}.cow`,
      `${jail}/io/serial.log`,
      `/dev/mapper/fc-rootfs-${vm.id}`,
    ];
    for (const path of [...sockets, ...secrets]) await host.ok(["test", "-e", path]);

    for (const socket of sockets) {
      equal((await host.ok(["python3", "-c", CONNECT, socket], { user: "other" })).trim(), "PermissionError", socket);
      equal((await host.ok(asVm("python3", "-c", CONNECT, socket))).trim(), "PermissionError", socket);
    }
    for (const secret of secrets) {
      for (const read of [
        await host.run(["head", "-c", "1", secret], { user: "other" }),
        await host.run(asVm("head", "-c", "1", secret)),
      ]) {
        equal(read.stdout, "", secret);
        match(read.stderr, /Permission denied/, secret);
      }
    }
    for (const directory of [
      "/var/lib/banger/owner",
      "/run/banger",
      "/run/banger/owner",
      jail,
      "/var/lib/banger/cow",
    ]) {
      notEqual((await host.run(["ls", directory], { user: "other" })).status, 0, directory);
    }
    for (const pid of [String(vm.pid)]) {
      notEqual((await host.run(["kill", "-0", pid], { user: "other" })).status, 0);
      notEqual((await host.run(asVm("kill", "-0", pid))).status, 0);
      // Nor may the owner: every signal goes through the helper.
      notEqual((await host.run(["kill", "-0", pid], { user: "dev" })).status, 0);
      notEqual((await host.run(asVm("head", "-c", "1", `/proc/${pid}/mem`))).status, 0);
      notEqual((await host.run(asVm("ls", `/proc/${pid}/fd`))).status, 0);
    }
    // The guest's sshd accepts only keys, and this user has none of them.
    const stranger = await host.run(
      [
        ...["ssh", "-F", "none", "-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=no", "-o", "ConnectTimeout=60"],
        ...["-o", "UserKnownHostsFile=/dev/null", `root@${vm.guestIp}`, "true"],
      ],
      { user: "other", timeoutMs: 180_000 },
    );
    equal(stranger.status, 255);
    match(stranger.stderr, /Permission denied|timed out/);
    equal((await inGuest(host, "alpha", "hostname")).trim(), "alpha");
  },
};
