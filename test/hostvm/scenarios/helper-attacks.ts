import { deepEqual, equal, match } from "node:assert/strict";
import type { Host } from "../host.ts";
import type { Scenario } from "../scenario.ts";
import { closeLab, drive, LAB, lookAtTreasure, openLab, TREASURE } from "../support/helper-lab.ts";
import { differences, takeSnapshot } from "../support/snapshot.ts";

type Params = Readonly<Record<string, unknown>>;
const { vm } = LAB;
const launch = { vm, kernel: "lab", initrd: true, root: "snapshot", tap: null, vcpu: 1, memory_mib: 256 };

/** Every attack of docs/privileges.md, tried as the owner, with the expected outcome. */
const ATTACKS: readonly (readonly [verb: string, params: Params, outcome: RegExp])[] = [
  ...["eth0", "lo", "docker0", "br-lan", "br-fc-"].map(
    (bridge) => ["ensure_bridge", { bridge, ip: "172.29.9.1", prefix: 24 }, /^HELPER_REFUSED/] as const,
  ),
  ["ensure_bridge", { bridge: "br-fc-uplink", ip: "172.29.9.1", prefix: 24 }, /^HELPER_REFUSED.*not a banger tap/],
  ["ensure_bridge", { bridge: "br-fc-dummy", ip: "172.29.9.1", prefix: 24 }, /^HELPER_REFUSED.*not a bridge/],
  ["ensure_bridge", { bridge: "br-fc-x", ip: "10.0.2.99", prefix: 24 }, /^HELPER_REFUSED.*overlaps/],
  ["ensure_bridge", { bridge: "br-fc-x", ip: "10.0.2.2", prefix: 32 }, /^HELPER_REFUSED.*overlaps/],
  ["ensure_bridge", { bridge: "br-fc-x", ip: "172.16.0.1", prefix: 8 }, /^HELPER_REFUSED.*private/],
  ["ensure_bridge", { bridge: "br-fc-x", ip: "8.8.8.8", prefix: 24 }, /^HELPER_REFUSED.*private/],
  ["ensure_bridge", { bridge: "br-fc-x", ip: "172.29.9.1", prefix: 24, uid: 0 }, /^INVALID_REQUEST/],
  ["create_tap", { tap: "tap-fc-x", bridge: "br-lan", guest_ip: "172.29.7.3" }, /^HELPER_REFUSED/],
  ["create_tap", { tap: "tap-fc-x", bridge: "br-fc-uplink", guest_ip: "172.29.7.3" }, /^HELPER_REFUSED/],
  ["create_tap", { tap: "eth0", bridge: LAB.bridge, guest_ip: "172.29.7.3" }, /^HELPER_REFUSED/],
  ["create_tap", { tap: "tap-fc-dummy", bridge: LAB.bridge, guest_ip: "172.29.7.3" }, /^HELPER_REFUSED.*not a tap/],
  ["create_tap", { tap: "tap-fc-x", bridge: LAB.bridge, guest_ip: "172.29.7.3", owner: 1000 }, /^INVALID_REQUEST/],
  [
    "create_tap",
    { tap: "tap-fc-host", bridge: LAB.bridge, guest_ip: "172.29.7.3" },
    /^HELPER_REFUSED.*not made by banger/,
  ],
  ["create_tap", { tap: "tap-fc-x", bridge: LAB.bridge, guest_ip: "10.0.2.15" }, /^HELPER_REFUSED/],
  ["create_tap", { tap: "tap-fc-x", bridge: LAB.bridge, guest_ip: "172.29.7.1" }, /^HELPER_REFUSED/],
  ["create_tap", { tap: "tap-fc-x", bridge: LAB.bridge, guest_ip: "172.29.7.2" }, /^IN_USE/],
  ["create_tap", { tap: "tap-fc-x", bridge: LAB.bridge, guest_ip: "172.29.7.3 accept" }, /^INVALID_REQUEST/],
  ...["eth0", "lo", "docker0", "tap0", "tap-fc-dummy", "tap-fc-host"].map(
    (tap) => ["delete_tap", { tap }, /^HELPER_REFUSED/] as const,
  ),
  ["ensure_nat", { tap: LAB.tap, guest_ip: "10.0.2.15", enable: true }, /^HELPER_REFUSED/],
  ["ensure_nat", { tap: LAB.tap, guest_ip: "198.51.100.1", enable: true }, /^HELPER_REFUSED/],
  ["ensure_nat", { tap: LAB.tap, guest_ip: "172.29.7.9", enable: true }, /^HELPER_REFUSED.*not made for/],
  ["ensure_nat", { tap: "tap-fc-host", guest_ip: "172.29.7.9", enable: true }, /^HELPER_REFUSED/],
  ["ensure_nat", { tap: "eth0", guest_ip: "172.29.7.2", enable: true }, /^HELPER_REFUSED/],
  ["ensure_nat", { tap: LAB.tap, guest_ip: "172.29.7.2/0", enable: true }, /^INVALID_REQUEST/],
  ["ensure_nat", { tap: LAB.tap, guest_ip: "-j ACCEPT", enable: true }, /^INVALID_REQUEST/],
  ["probe_nat", { tap: "eth0", guest_ip: "172.29.7.2" }, /^HELPER_REFUSED/],
  ["probe_nat", { tap: "tap-fc-dummy", guest_ip: "172.29.7.2" }, /^HELPER_REFUSED.*not a tap/],
  ["probe_nat", { tap: LAB.tap, guest_ip: "10.0.2.15" }, /^HELPER_REFUSED/],
  ["probe_nat", { tap: LAB.tap, guest_ip: "172.29.7.1" }, /^HELPER_REFUSED/],
  ["probe_nat", { tap: LAB.tap, guest_ip: "172.29.7.2", target: "10.0.2.2" }, /^INVALID_REQUEST/],
  ["sync_resolver_routing", { bridge: "eth0", resolver: "127.0.0.1" }, /^HELPER_REFUSED/],
  ["sync_resolver_routing", { bridge: LAB.bridge, resolver: "8.8.8.8" }, /^HELPER_REFUSED/],
  ["sync_resolver_routing", { bridge: LAB.bridge, resolver: "172.29.7.2:53" }, /^HELPER_REFUSED/],
  ["sync_resolver_routing", { bridge: LAB.bridge, resolver: "127.0.0.1", domain: "~." }, /^INVALID_REQUEST/],
  ["clear_resolver_routing", { bridge: "eth0" }, /^HELPER_REFUSED/],
  ...["link", "hard", "device", "directory", "outside"].map(
    (image) => ["create_dm_snapshot", { vm, image, root_bytes: 512 * 1024 * 1024 }, /^HELPER_REFUSED/] as const,
  ),
  ["create_dm_snapshot", { vm, image: "../../../dev", root_bytes: 512 * 1024 * 1024 }, /^INVALID_REQUEST/],
  ["create_dm_snapshot", { vm, image: "nothing", root_bytes: 512 * 1024 * 1024 }, /^IMAGE_NOT_FOUND/],
  // The host's own volumes, under names that a VM's would have.
  ["remove_dm_snapshot", { vm: "cccccccccccc", discard: true }, /^HELPER_REFUSED.*uses no device/],
  ["remove_dm_snapshot", { vm: "dddddddddddd", discard: true }, /^HELPER_REFUSED.*is marked LVM-host/],
  ["create_dm_snapshot", { vm: "cccccccccccc", image: "lab", root_bytes: 512 * 1024 * 1024 }, /^HELPER_REFUSED/],
  ["launch_firecracker", { ...launch, kernel: "link" }, /^HELPER_REFUSED/],
  ["launch_firecracker", { ...launch, kernel: "hard" }, /^HELPER_REFUSED/],
  ["launch_firecracker", { ...launch, vm: "aaaaaaaaaaaa" }, /^HELPER_REFUSED/],
  ["launch_firecracker", { ...launch, vm: "bbbbbbbbbbbb" }, /^HELPER_REFUSED/],
  ["launch_firecracker", { ...launch, tap: "eth0" }, /^HELPER_REFUSED/],
  ["launch_firecracker", { ...launch, tap: "tap-fc-dummy" }, /^HELPER_REFUSED/],
  ["launch_firecracker", { ...launch, uid: 0 }, /^INVALID_REQUEST/],
  ["launch_firecracker", { ...launch, binary: "/tmp/mine" }, /^INVALID_REQUEST/],
  ["launch_firecracker", { ...launch, kernel: "../../../../boot" }, /^INVALID_REQUEST/],
  ["signal_process", { vm, signal: "STOP" }, /^HELPER_REFUSED/],
  ["signal_process", { pid: 1, signal: "KILL" }, /^INVALID_REQUEST/],
  ["kill_process", { pid: 1 }, /^INVALID_REQUEST/],
  ["cleanup_jailer_chroot", { vm: ".." }, /^INVALID_REQUEST/],
  ["cleanup_jailer_chroot", { path: "/home" }, /^INVALID_REQUEST/],
  ["exec", { argv: ["id"] }, /^INVALID_REQUEST/],
];

/** Lists the names that udev gives the host's disks for their contents, once udev has settled. */
async function listDiskNames(host: Host): Promise<string> {
  return await host.sh("udevadm settle; find /dev/disk/by-uuid /dev/disk/by-label -type l -printf '%p %l\\n' | sort");
}

export const scenario: Scenario = {
  name: "helper-attacks",
  summary: "the root helper refuses every documented attack by the owner, and the host is unchanged",
  needs: ["banger", "firecracker"],
  timeoutMs: 15 * 60_000,
  async run(host) {
    await openLab(host);
    let loop = "";
    try {
      // The host's own things that look like banger's, and links that the owner plants.
      loop = (
        await host.sh(
          `
        ip link add br-lan type bridge
        ip link add docker0 type bridge
        ip link add br-fc-uplink type bridge
        ip link add lan0 type dummy; ip link set lan0 master br-fc-uplink
        ip link add br-fc-dummy type dummy
        ip link add tap-fc-dummy type dummy
        ip tuntap add dev tap-fc-host mode tap user 0
        truncate -s 8M /srv/lab/host.img; losetup --find --show /srv/lab/host.img
        `,
        )
      ).trim();
      await host.sh(
        `
        dmsetup create host-volume --table "0 8 zero"
        dmsetup create fc-rootfs-cccccccccccc --table "0 8 zero"
        dmsetup create fc-rootfs-dddddddddddd --uuid LVM-host --table "0 8 zero"
        state=/var/lib/banger/owner
        sysctl -q fs.protected_hardlinks=0
        cp --reflink=never -a ${TREASURE}/. $state/treasure
        as_dev() { runuser -u dev -- "$@"; }
        as_dev mkdir -p $state/images/{link,hard,device,directory/rootfs.ext4} $state/kernels/{link,hard} $state/vms/aaaaaaaaaaaa $state/vms/bbbbbbbbbbbb
        as_dev ln -s ${TREASURE}/rootfs.ext4 $state/images/link/rootfs.ext4
        ln $state/treasure/rootfs.ext4 $state/images/hard/rootfs.ext4
        mknod $state/images/device/rootfs.ext4 b 254 0
        as_dev ln -s ${TREASURE} $state/images/outside
        as_dev ln -s ${TREASURE}/vmlinux $state/kernels/link/vmlinux
        ln $state/treasure/vmlinux $state/kernels/hard/vmlinux
        as_dev ln -s ${TREASURE}/work.ext4 $state/vms/aaaaaaaaaaaa/work.ext4
        ln $state/treasure/work.ext4 $state/vms/bbbbbbbbbbbb/work.ext4
        `,
      );
      // An image with the name of the host's own root disk.
      await host.sh(
        `disk=$(findmnt -no SOURCE /)
        tune2fs -U "$(blkid -o value -s UUID $disk)" -L "$(blkid -o value -s LABEL $disk)" /var/lib/banger/owner/images/lab/rootfs.ext4`,
      );
      const names = await listDiskNames(host);
      const started = await drive(host, "askAll", [
        ["ensure_bridge", { bridge: LAB.bridge, ip: "172.29.7.1", prefix: 24 }],
        ["create_tap", { tap: LAB.tap, bridge: LAB.bridge, guest_ip: "172.29.7.2" }],
        ["create_dm_snapshot", { vm, image: "lab", root_bytes: 512 * 1024 * 1024 }],
        // Reserves the VMs' uids, so that the snapshots compare only what attacks change.
        ["create_dm_snapshot", { vm: "aaaaaaaaaaaa", image: "nothing", root_bytes: 512 * 1024 * 1024 }],
        ["create_dm_snapshot", { vm: "bbbbbbbbbbbb", image: "nothing", root_bytes: 512 * 1024 * 1024 }],
        ["create_dm_snapshot", { vm: "cccccccccccc", image: "nothing", root_bytes: 512 * 1024 * 1024 }],
        // Makes the lab's kernel readable and sets an access list on its disk, as every launch does.
        ["launch_firecracker", { ...launch, vm: "aaaaaaaaaaaa" }],
        ["launch_firecracker", { ...launch, tap: "tap-fc-dummy" }],
      ]);
      deepEqual((started as readonly string[]).slice(0, 3), ["ok", "ok", "ok"]);
      equal(await listDiskNames(host), names);

      const [before, treasure] = [await takeSnapshot(host), await lookAtTreasure(host)];
      const requests = JSON.parse(JSON.stringify(ATTACKS).replaceAll("HOST_LOOP", loop)) as typeof ATTACKS;
      const outcomes = (await drive(
        host,
        "askAll",
        requests.map(([verb, params]) => [verb, params]),
      )) as readonly string[];
      equal(outcomes.length, ATTACKS.length);
      for (const [index, [verb, params, expected]] of ATTACKS.entries()) {
        // The snapshot that the attacks need exists; `create` removes an unused one before it checks further.
        match(outcomes[index] ?? "", expected, `${verb} ${JSON.stringify(params)}`);
      }
      equal(await lookAtTreasure(host), treasure);
      deepEqual(differences(before, await takeSnapshot(host)), []);

      // The same socket, as another user of the host.
      const stranger = await host.run(
        ["python3", "-c", "import socket; socket.socket(socket.AF_UNIX).connect('/run/banger-root/bangerd-root.sock')"],
        { user: "other" },
      );
      match(stranger.stderr, /PermissionError/);
    } finally {
      await host.sh(
        `
        for volume in host-volume fc-rootfs-cccccccccccc fc-rootfs-dddddddddddd; do dmsetup remove --retry $volume || true; done
        for link in br-lan docker0 br-fc-uplink lan0 br-fc-dummy tap-fc-dummy tap-fc-host; do ip link delete $link 2> /dev/null || true; done
        [ -z "$1" ] || losetup -d "$1" || true
        state=/var/lib/banger/owner
        rm -rf $state/treasure $state/images/{link,hard,device,directory,outside} $state/kernels/{link,hard} $state/vms/{a,b}*
        sysctl -q fs.protected_hardlinks=1
        `,
        [loop],
      );
      await closeLab(host);
    }
  },
};
