import { equal, match } from "node:assert/strict";
import type { Scenario } from "../scenario.ts";

export const scenario: Scenario = {
  name: "host-is-as-designed",
  summary:
    "the test host works: systemd is PID 1 and has settled; KVM, device-mapper, vhost-vsock, tun and loop devices work",
  async run(host) {
    equal((await host.readFile("/proc/1/comm")).trim(), "systemd");
    match(await host.sh("systemctl is-system-running || true"), /^running$/m);
    match(await host.sh("stat -fc %T /sys/fs/cgroup"), /cgroup2fs/);
    await host.sh(`
      for device in kvm mapper/control vhost-vsock net/tun loop-control; do
        [ -c /dev/$device ] || { echo "no /dev/$device"; exit 1; }
      done
      dmsetup version > /dev/null
    `);
    // KVM_GET_API_VERSION, then a virtual machine and a virtual CPU.
    equal(
      await host.ok([
        "python3",
        "-c",
        "import fcntl, os; kvm = os.open('/dev/kvm', os.O_RDWR); print(fcntl.ioctl(kvm, 0xAE00)); vm = fcntl.ioctl(kvm, 0xAE01, 0); fcntl.ioctl(vm, 0xAE41, 0)",
      ]),
      "12\n",
    );
    // A snapshot over a read-only loop device, as VMs use.
    equal(
      await host.sh(`
        dir=$(mktemp -d)
        truncate -s 8M $dir/base $dir/cow
        base=$(losetup --find --show --read-only $dir/base)
        cow=$(losetup --find --show $dir/cow)
        dmsetup create probe --table "0 $(blockdev --getsz $base) snapshot $base $cow P 8"
        printf hello | dd of=/dev/mapper/probe conv=notrunc status=none
        head -c 5 /dev/mapper/probe
        dmsetup remove --retry probe
        losetup -d $base $cow
        rm -r $dir
      `),
      "hello",
    );
    await host.sh(`
      ip tuntap add dev probe0 mode tap user dev
      ip link add probebr type bridge
      ip link set probe0 master probebr up
      ip link del probe0
      ip link del probebr
      iptables -t nat -A POSTROUTING -s 172.16.0.2/32 -j MASQUERADE
      iptables -t nat -D POSTROUTING -s 172.16.0.2/32 -j MASQUERADE
      resolvectl status > /dev/null
    `);
    for (const [user, uid] of [
      ["dev", "1000"],
      ["other", "1001"],
    ] as const)
      equal((await host.ok(["id", "-u"], { user })).trim(), uid);
  },
};
