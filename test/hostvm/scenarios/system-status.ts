import { equal, match } from "node:assert/strict";
import type { Scenario } from "../scenario.ts";
import { BANGER, GIVEN, install, purge } from "../support/installed.ts";

interface Status {
  readonly installed: boolean;
  readonly units: readonly { readonly name: string; readonly active: string }[];
  readonly daemon: { readonly version: string | null };
  readonly helper: { readonly version: string | null };
}

export const scenario: Scenario = {
  name: "system-status",
  summary: "status tells every user whether the system is installed, partly down or missing",
  needs: ["banger"],
  async run(host) {
    const ask = async (user: "root" | "dev" | "other", program = BANGER) => {
      const result = await host.run([program, "system", "status", "--json"], { user });
      return { exit: result.status, status: JSON.parse(result.stdout) as Status };
    };
    await purge(host);
    const missing = await ask("dev", GIVEN);
    equal(missing.exit, 1);
    equal(missing.status.installed, false);

    await install(host);
    for (const user of ["root", "dev"] as const) {
      const { exit, status } = await ask(user);
      equal(exit, 0, user);
      equal(typeof status.helper.version, "string");
    }
    const stranger = await ask("other");
    equal(stranger.exit, 1);
    equal(stranger.status.daemon.version, null);
    equal(stranger.status.helper.version, null);

    await host.ok(["systemctl", "stop", "bangerd.socket", "bangerd.service"]);
    const half = await ask("root");
    equal(half.exit, 1);
    equal(half.status.daemon.version, null);
    equal(typeof half.status.helper.version, "string");
    equal(half.status.units.find(({ name }) => name === "bangerd.service")?.active, "inactive");
    match((await host.run([BANGER, "system", "status"])).stdout, /owner daemon +silent/);

    await install(host);
    equal((await ask("dev")).exit, 0);
  },
};
