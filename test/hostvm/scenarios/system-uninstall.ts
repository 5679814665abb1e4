import { deepEqual, equal, match } from "node:assert/strict";
import type { Scenario } from "../scenario.ts";
import { BANGER, install, purge } from "../support/installed.ts";
import { differences, takeSnapshot } from "../support/snapshot.ts";

export const scenario: Scenario = {
  name: "system-uninstall",
  summary: "uninstall refuses while VMs run and keeps the state; --purge restores the host as it was before",
  needs: ["banger"],
  async run(host) {
    await purge(host);
    const before = await takeSnapshot(host);
    await install(host);
    const reserved = await host.readFile("/etc/banger/install.toml");
    await host.sh("echo precious > /var/lib/banger/owner/precious; chown dev: /var/lib/banger/owner/precious");

    await host.sh(
      "systemd-run --quiet --scope --slice=banger-vms.slice --unit=banger-vm-0123456789ab sleep 600 > /dev/null 2>&1 &",
    );
    await host.until("a VM's scope", "systemctl is-active --quiet banger-vm-0123456789ab.scope", 30_000);
    const refused = await host.run([BANGER, "system", "uninstall"]);
    equal(refused.status, 24, refused.stderr);
    match(refused.stderr, /1 VM is running/);
    equal((await host.run([BANGER, "system", "status"])).status, 0);
    await host.ok([BANGER, "system", "uninstall", "--force"], { timeoutMs: 240_000 });
    equal((await host.run(["systemctl", "is-active", "banger-vm-0123456789ab.scope"])).status !== 0, true);
    deepEqual(
      differences(before, await takeSnapshot(host)).filter((line) => !line.startsWith("+ file /var/lib/banger")),
      [],
    );
    equal(await host.readFile("/var/lib/banger/owner/precious"), "precious\n");

    await install(host);
    equal(await host.readFile("/etc/banger/install.toml"), reserved);
    await host.ok([BANGER, "system", "uninstall", "--purge"], { timeoutMs: 240_000 });
    deepEqual(differences(before, await takeSnapshot(host)), []);
  },
};
