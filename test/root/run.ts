/**
 * `bun test/root/run.ts [file…]`: tests of real system calls and tools, as root, in mount and network namespaces of their own, so
 * that no interface, rule or mount of theirs is ever the host's. Loops, cgroups and files under /srv are the host's;
 * every test removes its own.
 */

import { join } from "node:path";

if (process.getuid?.() !== 0) {
  console.log("test/root: skipped: it needs root (sudo bun test/root/run.ts)");
  process.exit(0);
}
// sysfs tells of the network namespace that it was mounted in.
const namespaces = [
  ...["/usr/bin/unshare", "--mount", "--net", "--propagation", "private", "--"],
  ...["/bin/sh", "-c", 'mount -t sysfs sysfs /sys && exec "$@"', "sh"],
];
const probe = Bun.spawnSync([...namespaces, "/bin/true"]);
if (probe.exitCode !== 0) {
  console.log(`test/root: skipped: no namespaces here: ${probe.stderr.toString().trim()}`);
  process.exit(0);
}
const files = process.argv.slice(2);
const child = Bun.spawn(
  [...namespaces, process.execPath, "test", ...(files.length === 0 ? [import.meta.dir] : files)],
  {
    cwd: join(import.meta.dir, "../.."),
    env: { ...process.env, BANGER_TEST_ROOT: "1" },
    stdio: ["ignore", "inherit", "inherit"],
  },
);
process.exitCode = await child.exited;
