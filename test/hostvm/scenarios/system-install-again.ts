import { deepEqual, equal, notEqual } from "node:assert/strict";
import type { Scenario } from "../scenario.ts";
import { BANGER, firecrackerArguments, install, mainPid } from "../support/installed.ts";

export const scenario: Scenario = {
  name: "system-install-again",
  summary: "a second install changes nothing and restarts nothing, and repairs what was changed",
  needs: ["banger"],
  async run(host) {
    await install(host);
    const again = async (): Promise<readonly string[]> => {
      const text = await host.ok(
        [BANGER, "system", "install", "--owner", "dev", "--json", ...(await firecrackerArguments(host))],
        { timeoutMs: 240_000 },
      );
      return (JSON.parse(text) as { readonly changed: readonly string[] }).changed;
    };
    const pids = async (): Promise<readonly number[]> => [
      await mainPid(host, "bangerd.service"),
      await mainPid(host, "bangerd-root.service"),
    ];
    const config = await host.readFile("/etc/banger/install.toml");
    const before = await pids();
    deepEqual(await again(), []);
    deepEqual(await pids(), before);

    await host.sh(`
      sed -i s/NoNewPrivileges=yes/NoNewPrivileges=no/ /etc/systemd/system/bangerd.service
      chmod 755 /var/lib/banger/slots
      rm /usr/local/bin/bangerd
    `);
    deepEqual(
      [...(await again())].sort(),
      ["/etc/systemd/system/bangerd.service", "/usr/local/bin/bangerd", "/var/lib/banger/slots"].sort(),
    );
    notEqual(await mainPid(host, "bangerd.service"), before[0]);
    equal((await host.ok(["systemctl", "show", "--value", "-p", "NoNewPrivileges", "bangerd.service"])).trim(), "yes");
    equal(await host.readFile("/etc/banger/install.toml"), config);
  },
};
