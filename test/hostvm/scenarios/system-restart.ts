import { equal, match, notEqual } from "node:assert/strict";
import type { Scenario } from "../scenario.ts";
import { BANGER, install, mainPid } from "../support/installed.ts";

/** Sends requests over and over, and counts the failures. */
const ASK = `
  failed=0
  asked=0
  until [ -e /tmp/asked-enough ]; do
    asked=$((asked + 1))
    curl -fsS -m 60 --unix-socket /run/banger/bangerd.sock -X POST -d '{}' http://localhost/v1/system.ping > /dev/null || failed=$((failed + 1))
  done
  echo "$failed of $asked failed"
`;

export const scenario: Scenario = {
  name: "system-restart",
  summary: "restart starts new daemons; requests meanwhile wait instead of failing",
  needs: ["banger"],
  async run(host) {
    await install(host);
    const before = [await mainPid(host, "bangerd.service"), await mainPid(host, "bangerd-root.service")];
    await host.ok(["rm", "-f", "/tmp/asked-enough"]);
    const asking = host.sh(ASK, [], { user: "dev", timeoutMs: 180_000 });
    match(await host.ok([BANGER, "system", "restart"], { timeoutMs: 180_000 }), /the daemon and the helper answer/);
    await host.ok(["touch", "/tmp/asked-enough"]);
    match(await asking, /^0 of \d+ failed$/m);
    notEqual(await mainPid(host, "bangerd.service"), before[0]);
    notEqual(await mainPid(host, "bangerd-root.service"), before[1]);
    equal((await host.run([BANGER, "system", "restart"], { user: "dev" })).status, 11);
  },
};
