/**
 * A lab for the root helper in a test host: the installed system without its daemon, and owner's files to work with.
 */

import { join } from "node:path";
import type { CommandOptions, Host } from "../host.ts";
import { BANGER, ensureInstalled } from "./installed.ts";

export const LAB = { vm: "1ab01ab01ab0", bridge: "br-fc-lab", tap: "tap-fc-lab" } as const;
const DRIVER = "/srv/lab/driver.js";
/** Root's directory, which no attack may change. */
export const TREASURE = "/srv/lab/treasure";

/** Sets up the driver and the lab's files. Stops the owner daemon, which would remove what it doesn't know. */
export async function openLab(host: Host): Promise<void> {
  await ensureInstalled(host);
  await host.sh("systemctl stop bangerd.service bangerd.socket");
  const built = await Bun.build({ entrypoints: [join(import.meta.dir, "helper-driver.ts")], target: "bun" });
  const [bundle] = built.outputs;
  if (!built.success || bundle === undefined) throw new Error(`can't bundle the driver: ${built.logs.join("\n")}`);
  await host.ok(["mkdir", "-p", TREASURE]);
  await host.writeFile(DRIVER, await bundle.text(), 0o644);
  await host.sh(
    `
    for name in rootfs.ext4 vmlinux work.ext4 api.sock initrd.img; do echo "root's own" > ${TREASURE}/$name; chmod 600 ${TREASURE}/$name; done
    # A size that no image of the lab has, which identifies a loop of it.
    truncate -s 1M ${TREASURE}/rootfs.ext4
    cp -a ${TREASURE} /srv/lab/copy
    state=/var/lib/banger/owner
    install -d -o dev -g dev -m 700 $state/images $state/images/lab $state/kernels $state/kernels/lab $state/vms $state/vms/$1
    for file in $state/images/lab/rootfs.ext4 $state/vms/$1/work.ext4; do
      truncate -s 64M $file; mkfs.ext4 -q -F $file; chmod 600 $file; chown dev:dev $file
    done
    # No guest of the lab reads it.
    head -c 1024 /dev/zero > $state/vms/$1/identity.img; chmod 600 $state/vms/$1/identity.img; chown dev:dev $state/vms/$1/identity.img
    install -o dev -g dev -m 600 /payload/guest/vmlinux $state/kernels/lab/vmlinux
    install -o dev -g dev -m 600 /payload/guest/initrd $state/kernels/lab/initrd.img
    `,
    [LAB.vm],
  );
}

/** Removes those walls of the bridge that stay until uninstall. */
export const REMOVE_WALLS = `
  for family in inet netdev; do nft delete table $family banger 2> /dev/null || true; done
  for preference in 4201 4202 4203; do while ip rule delete pref $preference 2> /dev/null; do :; done; done
`;

/** Ends the lab's VM, removes everything of the lab, and starts the daemon again. */
export async function closeLab(host: Host): Promise<void> {
  await drive(host, "live", LAB, "end");
  await host.sh(
    `
    state=/var/lib/banger/owner
    rm -rf $state/images/lab $state/kernels/lab $state/vms/$1 /srv/lab
    rm -rf /var/lib/banger/slots/* /var/lib/banger/cow/*
    for link in $(ip -o link | grep -oE '(br-fc|tap-(fc|pool))[a-z0-9-]*' | sort -u); do ip link delete $link 2> /dev/null || true; done
    # Walls stay until uninstall; the next scenario compares with a host that has none.
    ${REMOVE_WALLS}
    systemctl start bangerd.socket
    `,
    [LAB.vm],
  );
}

/** The environment and arguments with which the installed executable runs a script, as an attacker would use it. */
export function driverArgv(command: string, ...options: readonly unknown[]): readonly string[] {
  return ["env", "BUN_BE_BUN=1", BANGER, "run", DRIVER, command, ...options.map((option) => JSON.stringify(option))];
}

/** Runs the driver as the owner. Returns its output. */
export async function drive(host: Host, command: string, ...options: readonly unknown[]): Promise<unknown> {
  return JSON.parse(await host.ok(driverArgv(command, ...options), DRIVE));
}
const DRIVE: CommandOptions = { user: "dev", timeoutMs: 280_000 };

/** Everything of the treasure that an attack could change: contents, mode, owner, names, access lists, times. */
export async function lookAtTreasure(host: Host): Promise<string> {
  return await host.sh(
    `cd ${TREASURE}; find . -printf '%p %y %m %U:%G %n %s %C@\\n' | sort; ls -lR | grep + || true; sha256sum * | sort`,
  );
}
