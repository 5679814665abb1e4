import type { Scenario } from "../scenario.ts";
import { GUEST_MARKER } from "../support/payload.ts";

const CONFIG = {
  "boot-source": {
    kernel_image_path: "/vmlinux",
    initrd_path: "/initrd",
    boot_args: "console=ttyS0 reboot=k panic=-1 quiet",
  },
  "machine-config": { vcpu_count: 1, mem_size_mib: 256 },
  drives: [],
};

export const scenario: Scenario = {
  name: "bare-firecracker-boots",
  summary: "Firecracker under its jailer, without banger, boots a Debian kernel to user space",
  needs: ["firecracker"],
  async run(host) {
    await host.sh("mkdir -p /srv/jail/firecracker/probe/root && cp /payload/guest/* /srv/jail/firecracker/probe/root/");
    await host.writeFile("/srv/jail/firecracker/probe/root/config.json", JSON.stringify(CONFIG), 0o644);
    try {
      await host.sh(`
        mkdir -p /srv/fc && cp /payload/firecracker/* /srv/fc/
        chown -R 70000:70000 /srv/jail/firecracker/probe/root
        systemd-run --quiet --unit probe-vm --property StandardOutput=file:/srv/jail/console -- \
          /srv/fc/jailer --id probe --exec-file /srv/fc/firecracker --uid 70000 --gid 70000 \
          --chroot-base-dir /srv/jail --cgroup-version 2 -- --no-api --config-file /config.json
      `);
      await host.until(
        "the guest's marker on its console",
        `grep -q ${GUEST_MARKER} /srv/jail/console || { cat /srv/jail/console; systemctl status --no-pager probe-vm; exit 1; }`,
        120_000,
      );
    } finally {
      await host.sh(
        "systemctl kill -s KILL probe-vm || true; systemctl reset-failed probe-vm || true; rm -rf /srv/jail /srv/fc",
      );
    }
  },
};
