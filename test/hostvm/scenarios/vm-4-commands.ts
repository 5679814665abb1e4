import { deepEqual, equal, match, notEqual, ok } from "node:assert/strict";
import type { Scenario } from "../scenario.ts";
import {
  banger,
  bangerOk,
  BOOT_TIMEOUT_MS,
  ensureVm,
  inGuest,
  inventory,
  listVms,
  showVm,
  SMALL_VM,
} from "../support/guests.ts";
import { BANGER } from "../support/installed.ts";

/** Less than the rootless test's 100 MB: this guest's processor is emulated twice. */
const PIPE_BYTES = 8 * 1024 * 1024;
const CREATES = 8;
const CONFIG = "/etc/banger/config.toml";

interface Port {
  readonly port: number;
  readonly forward: string | null;
}

export const scenario: Scenario = {
  name: "vm-commands",
  summary: "every VM command works in the installed system as it does without root",
  needs: ["banger", "firecracker", "image"],
  isLong: true,
  timeoutMs: 3 * BOOT_TIMEOUT_MS,
  async run(host) {
    const dev = { user: "dev", timeoutMs: BOOT_TIMEOUT_MS } as const;
    const vm = await ensureVm(host, "alpha");

    // Pipes carry every byte, both ways, and nothing waits for a missing stdin.
    const script = `cd "$HOME"; head -c ${PIPE_BYTES} /dev/urandom > random; "$1" vm exec alpha -- cat < random | cmp - random; rm random`;
    equal(await host.sh(script, [BANGER], dev), "");
    equal((await host.sh('printf x | "$1" vm exec alpha -- wc -c', [BANGER], dev)).trim(), "1");
    equal(
      (
        await host.sh(
          'timeout 60 "$1" vm exec alpha -- echo done < <(exec sleep 300); pkill -u dev -x sleep',
          [BANGER],
          dev,
        )
      ).trim(),
      "done",
    );
    const both = await banger(host, "vm", "exec", "alpha", "--", "sh", "-c", "echo out; echo err >&2; exit 7");
    deepEqual([both.status, both.stdout, both.stderr], [7, "out\n", "err\n"]);
    const hostile = ["a b", "$(reboot)", "`id`", "'", "\\", "--help", "", ";reboot"];
    const echoed = await bangerOk(host, "vm", "exec", "alpha", "--", "printf", "%s|", ...hostile);
    equal(echoed, `${hostile.join("|")}|`);
    equal(
      await bangerOk(
        host,
        "vm",
        "exec",
        "-e",
        "WORD=a 'b'",
        "-w",
        "/usr",
        "alpha",
        "--",
        "sh",
        "-c",
        'echo "$WORD"; pwd',
      ),
      "a 'b'\n/usr\n",
    );
    equal(await inGuest(host, "alpha", "pwd; test -t 0 || echo no terminal"), "/root\nno terminal\n");
    // script(1) provides a terminal.
    match(
      await host.sh('script -qec "$1 vm exec -t alpha -- tty" /dev/null < /dev/null', [BANGER], dev),
      /\/dev\/pts\/\d+/,
    );
    const late = await banger(host, "vm", "exec", "--timeout", "3s", "alpha", "--", "sleep", "4711");
    equal(late.status, 124, late.stderr);
    notEqual((await banger(host, "vm", "exec", "alpha", "--", "pgrep", "-f", "sleep 471[1]")).status, 0);
    const two = await Promise.all(
      ["one", "two"].map(async (word) => await inGuest(host, "alpha", `sleep 1; echo ${word}`)),
    );
    deepEqual(two, ["one\n", "two\n"]);

    // Copies, ports and listings.
    await host.sh('cd "$HOME"; mkdir -p tree/sub; echo hi > "tree/sub/a b"; chmod 750 "tree/sub/a b"', [], dev);
    await bangerOk(host, "cp", "/home/dev/tree", "alpha:/root/tree");
    await bangerOk(host, "cp", "alpha:/root/tree", "/home/dev/back");
    equal(
      await host.sh('cd "$HOME"; stat -c %a "back/sub/a b"; cat "back/sub/a b"; rm -r tree back', [], dev),
      "750\nhi\n",
    );
    const listener = banger(host, "exec", "alpha", "--", "timeout", "120", "perl", "-MIO::Socket::INET", "-e", SERVER);
    const ports = async (): Promise<readonly Port[]> =>
      JSON.parse(await bangerOk(host, "vm", "ports", "alpha", "--json")) as Port[];
    while (!(await ports()).some(({ port }) => port === 8123)) await Bun.sleep(500);
    equal(await host.ok(["curl", "-s", "--max-time", "60", `http://${vm.guestIp}:8123/`]), "hello");
    await bangerOk(host, "vm", "forward", "-d", "alpha", "18123:8123");
    equal(await host.ok(["curl", "-s", "--max-time", "60", "http://127.0.0.1:18123/"]), "hello");
    equal((await ports()).find(({ port }) => port === 8123)?.forward, "127.0.0.1:18123");
    await inGuest(host, "alpha", "pkill perl");
    await listener;
    const [stats] = JSON.parse(await bangerOk(host, "vm", "stats", "alpha", "--json")) as [
      { readonly memoryBytes: number; readonly diskBytes: number; readonly rxBytes: number | null },
    ];
    ok(stats.memoryBytes > 50 * 1024 * 1024 && stats.diskBytes > 0 && (stats.rxBytes ?? 0) > 0, JSON.stringify(stats));
    match(await bangerOk(host, "logs", "alpha"), /\S/);
    await bangerOk(host, "ssh-config", "--install");
    equal((await host.ok(["ssh", "-o", "BatchMode=yes", "alpha.vm", "hostname"], dev)).trim(), "alpha");
    await bangerOk(host, "ssh-config", "--uninstall");

    // What a stopped VM allows and refuses, and which commands leave no record.
    const before = (await listVms(host)).map(({ name }) => name);
    for (const bad of [
      ["--name", "-x"],
      ["--name", "UPPER"],
      ["--memory", "lots"],
      ["--image", "no-such"],
    ]) {
      notEqual((await banger(host, "vm", "create", "--no-start", ...bad)).status, 0, bad.join(" "));
    }
    equal((await banger(host, "vm", "create", "--name", "alpha")).status, 21);
    const names = Array.from({ length: CREATES }, (_, index) => `cold-${index}`);
    const created = await Promise.all(
      names.map(async (name) => await banger(host, "vm", "create", "--no-start", "--name", name, ...SMALL_VM)),
    );
    deepEqual(
      created.map(({ status, stderr }) => (status === 0 ? "" : stderr)),
      names.map(() => ""),
    );
    equal(new Set((await listVms(host)).map(({ guestIp }) => guestIp)).size, before.length + CREATES);
    const refused = await banger(host, "vm", "exec", "cold-0", "--", "true");
    equal(refused.status, 125);
    match(refused.stderr, /\[WRONG_STATE\]/);
    await bangerOk(host, "vm", "set", "cold-0", "--memory", "384M", "--disk-size", "300M");
    notEqual((await banger(host, "vm", "set", "cold-0", "--disk-size", "128M")).status, 0);
    await bangerOk(host, "vm", "prune", "-f");
    deepEqual(
      (await listVms(host)).map(({ name }) => name),
      before,
    );
    equal((await showVm(host, "alpha")).bootId, vm.bootId);

    // Everything in one command, including the files of [[file_sync]]; its VM is removed afterwards.
    await host.sh('printf given > "$HOME/token"; chmod 640 "$HOME/token"', [], dev);
    await host.writeFile(CONFIG, '[[file_sync]]\nhost = "~/token"\nguest = "~/.tokens/given"\n', 0o644);
    await host.ok(["systemctl", "restart", "bangerd.service"]);
    const first = "stat -c %a:%u:%g /root/.tokens/given; cat /root/.tokens/given; cat; exit 5";
    const ran = await banger(host, "vm", "run", "--rm", "--name", "once", ...SMALL_VM, "--", "sh", "-c", first);
    deepEqual([ran.status, ran.stdout], [5, "640:0:0\ngiven"], ran.stderr);
    await host.ok(["rm", CONFIG]);
    await host.ok(["systemctl", "restart", "bangerd.service"]);
    deepEqual(
      (await listVms(host)).map(({ name }) => name),
      before,
    );
    const running = (await listVms(host)).filter(({ state }) => state === "running").map(({ id }) => id);
    deepEqual((await inventory(host)).scopes.map(({ vm: id }) => id).toSorted(), running.toSorted());
    const doctor = await host.sh('"$1" doctor 2>&1 || true', [BANGER], dev);
    for (const check of ["root helper", "root disks", "jails", "bridge and taps", "network"])
      match(doctor, new RegExp(`^PASS  ${check}: `, "m"));
    match(doctor, /^PASS {2}NAT: a guest's packet got out by /m);
    const { taps, nat_rules } = await inventory(host);
    deepEqual(
      [...taps.map(({ tap }) => tap), ...nat_rules.map(({ tap }) => tap)].filter((each) => each.includes("doctor")),
      [],
    );
  },
};

const SERVER =
  'my $s=IO::Socket::INET->new(LocalPort=>8123,Listen=>5,ReuseAddr=>1) or die; while(my $c=$s->accept){print $c "HTTP/1.0 200 OK\\r\\nContent-Length: 5\\r\\n\\r\\nhello";close $c}';
