/**
 * `bun test/root/run.ts [file…]`: runs tests of real system calls and tools as root, in their own mount and network
 * namespaces, so that none of their interfaces, rules or mounts is the host's. Loops, cgroups and files under /srv are
 * the host's; every test removes its own.
 */

import { join } from "node:path";
import { NAMESPACES } from "./namespaces.ts";

if (process.getuid?.() !== 0) {
  console.log("test/root: skipped: it needs root (sudo bun test/root/run.ts)");
  process.exit(0);
}
const probe = Bun.spawnSync([...NAMESPACES, "/bin/true"]);
if (probe.exitCode !== 0) {
  console.log(`test/root: skipped: no namespaces here: ${probe.stderr.toString().trim()}`);
  process.exit(0);
}
const files = process.argv.slice(2);
const child = Bun.spawn(
  [...NAMESPACES, process.execPath, "test", ...(files.length === 0 ? [import.meta.dir] : files)],
  {
    cwd: join(import.meta.dir, "../.."),
    env: { ...process.env, BANGER_TEST_ROOT: "1" },
    stdio: ["ignore", "inherit", "inherit"],
  },
);
process.exitCode = await child.exited;
