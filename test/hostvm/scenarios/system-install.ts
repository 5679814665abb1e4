import { deepEqual, equal, match, ok } from "node:assert/strict";
import type { Scenario } from "../scenario.ts";
import { BANGER, install, purge } from "../support/installed.ts";
import { LOOSEST, watchModes } from "../support/mode-watch.ts";

const OWNED: Readonly<Record<string, string>> = {
  "/etc/banger": "755 root root directory",
  "/etc/banger/install.toml": "644 root root regular file",
  "/usr/local/bin/banger": "755 root root regular file",
  "/usr/local/bin/bangerd": "777 root root symbolic link",
  "/usr/local/bin/bangerd-root": "777 root root symbolic link",
  "/var/lib/banger": "711 root root directory",
  "/var/lib/banger/owner": "700 dev dev directory",
  "/var/lib/banger/jail": "711 root root directory",
  "/var/lib/banger/cow": "711 root root directory",
  "/var/lib/banger/slots": "700 root root directory",
  "/var/cache/banger": "700 dev dev directory",
  "/run/banger": "711 root root directory",
  "/run/banger/owner": "700 dev dev directory",
  "/run/banger/bangerd.sock": "600 dev dev socket",
  "/run/banger-root": "711 root root directory",
  "/run/banger-root/bangerd-root.sock": "600 dev dev socket",
};

export const scenario: Scenario = {
  name: "system-install",
  summary:
    "install on a clean host: every file has its owner and mode and is never more open meanwhile; both daemons answer",
  needs: ["banger"],
  async run(host) {
    await purge(host);
    let said = "";
    const watched = await watchModes(host, async () => {
      said = await install(host);
    });
    deepEqual(watched.bad, [], "something private was open for a moment");
    deepEqual(watched.seen, Object.keys(LOOSEST).sort());
    ok(watched.rounds > 1000, `the watcher looked ${watched.rounds} times only`);

    for (const [path, wanted] of Object.entries(OWNED)) {
      equal((await host.ok(["stat", "-c", "%a %U %G %F", path])).trim(), wanted, path);
      if (!path.startsWith("/run")) ok(said.includes(path), `install did not say ${path}`);
    }
    match(await host.readFile("/etc/banger/install.toml"), /uid = 1000\n[^]*first = 2001000000\ncount = 4096/);
    for (const unit of [
      ...["bangerd.socket", "bangerd-root.socket", "bangerd.service", "bangerd-root.service"],
      "var-lib-banger-jail.mount",
    ]) {
      equal((await host.ok(["systemctl", "is-active", unit])).trim(), "active", unit);
      equal((await host.ok(["systemctl", "is-enabled", unit])).trim(), "enabled", unit);
      equal(await host.sh('systemd-analyze verify --man=no "$1" 2>&1', [`/etc/systemd/system/${unit}`]), "", unit);
    }

    const status = JSON.parse(await host.ok([BANGER, "system", "status", "--json"], { user: "dev" })) as {
      readonly owner: { readonly name: string };
      readonly daemon: { readonly version: string };
      readonly helper: { readonly version: string };
    };
    equal(status.owner.name, "dev");
    equal(status.daemon.version, status.helper.version);
    equal((await host.sh("ps -o user= -p $(systemctl show --value -p MainPID bangerd.service)")).trim(), "dev");
    equal((await host.sh("ps -o user= -p $(systemctl show --value -p MainPID bangerd-root.service)")).trim(), "root");
  },
};
