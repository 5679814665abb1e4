import { deepEqual, equal, match } from "node:assert/strict";
import type { Scenario } from "../scenario.ts";
import { GIVEN, purge, RELEASE } from "../support/installed.ts";
import { differences, takeSnapshot } from "../support/snapshot.ts";

export const scenario: Scenario = {
  name: "system-install-refusals",
  summary: "an invalid install prints the reason, sets its exit status and changes nothing",
  needs: ["banger"],
  async run(host) {
    await purge(host);
    const before = await takeSnapshot(host);
    const refused = async (words: readonly string[], exit: number, said: RegExp, user: "root" | "dev" = "root") => {
      const result = await host.run([GIVEN, "system", "install", ...words], { user });
      equal(result.status, exit, `${words.join(" ")}: ${result.stderr}`);
      match(result.stderr, said);
    };
    await refused(["--owner", "dev", "--no-firecracker"], 11, /needs root/, "dev");
    await refused(["--no-firecracker"], 2, /no owner given/);
    await refused(["--owner", "nobody-here", "--no-firecracker"], 2, /there is no user nobody-here/);
    await refused(["--owner", "root", "--no-firecracker"], 2, /root can't be the owner/);
    await refused(["--owner", "../dev", "--no-firecracker"], 2, /not a valid user name/);
    await refused(["--owner", "dev", "--firecracker-dir", "/root"], 30, /contains no firecracker/);
    await host.sh(`
      mkdir /root/old
      printf '#!/bin/sh\\necho "Firecracker v1.13.0"\\n' > /root/old/firecracker
      printf '#!/bin/sh\\necho "Jailer v1.13.0"\\n' > /root/old/jailer
    `);
    await refused(["--owner", "dev", "--firecracker-dir", "/root/old"], 32, /1\.13\.0 has known security holes/);
    await host.sh("sed -i s/1.13.0/1.16.1/ /root/old/firecracker /root/old/jailer");
    await refused(["--owner", "dev", "--firecracker-dir", "/root/old"], 32, /is not statically linked/);
    await host.ok(["rm", "-r", "/root/old"]);
    // A release build rejects what only a test build accepts.
    if ((await host.run(["test", "-e", RELEASE])).status === 0) {
      const words = ["system", "install", "--owner", "dev", "--firecracker-dir", "/payload/firecracker"];
      const result = await host.run([RELEASE, ...words]);
      equal(result.status, 32, result.stderr);
      match(result.stderr, /has known security holes/);
    } else host.note("this run has no test build, so what a release build rejects isn't tested");

    await host.ok(["chmod", "g+w", "/usr/local/bin"]);
    await refused(
      ["--owner", "dev", "--no-firecracker"],
      12,
      /\/usr\/local\/bin can be written by users other than root/,
    );
    await host.ok(["chmod", "g-w", "/usr/local/bin"]);
    await host.ok(["ln", "-s", "/tmp", "/var/lib/banger"]);
    await refused(["--owner", "dev", "--no-firecracker"], 12, /\/var\/lib\/banger is not a directory/);
    await host.ok(["rm", "/var/lib/banger"]);
    deepEqual(differences(before, await takeSnapshot(host)), []);
  },
};
