/** Guests that the agent boots, and one that it must not: an image without an init, and a kernel with an initrd of its own. */

import { afterAll, beforeAll, expect, test } from "bun:test";
import { chmod, mkdir, readdir, readFile, symlink, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { runTool } from "../../src/daemon/host/run-tool.ts";
import { type CpioEntry, writeCpio } from "../../src/daemon/kernel/write-cpio.ts";
import init from "../../src/daemon/image/guest/initrd-init.sh" with { type: "text" };
import { type Home, makeHomeWithImage } from "../support/banger.ts";
import { readCpio } from "../support/cpio.ts";

const BOOT = { timeoutMs: 300_000 };
const TEST_TIMEOUT_MS = 600_000;
const DIRECTORY = 0o40755;
const EXECUTABLE = 0o100755;

let home: Home;
let kernel: string;
/** What banger's own initrd is made of. */
let initrd: readonly CpioEntry[];

const contentsOf = (path: string): Uint8Array => {
  const contents = initrd.find((entry) => entry.path === path)?.contents;
  if (contents === undefined) throw new Error(`the initrd has no ${path}`);
  return contents;
};
const kernelDir = (): string => join(home.stateDir, "kernels", kernel);
const diskOf = async (name: string): Promise<string> => {
  const { id } = await home.json<{ id: string }>(["vm", "show", name]);
  return join(home.stateDir, "vms", id, "work.ext4");
};
const inGuest = async (name: string, script: string): Promise<string> =>
  (await home.ok(["exec", name, "--", "sh", "-c", script], BOOT)).trim();

beforeAll(async () => {
  home = await makeHomeWithImage();
  kernel = (await readdir(join(home.stateDir, "kernels")))[0] ?? "";
  initrd = readCpio(await readFile(join(kernelDir(), "initrd.img")));
}, 900_000);
afterAll(async () => {
  await home[Symbol.asyncDispose]();
});

test(
  "an image of busybox alone: the agent is its init, from the first command to a clean end",
  async () => {
    const tree = join(home.dir, "tree");
    await mkdir(join(tree, "bin"), { recursive: true });
    await mkdir(join(tree, "etc"));
    await writeFile(join(tree, "bin/busybox"), contentsOf("bin/busybox"));
    await chmod(join(tree, "bin/busybox"), 0o755);
    await symlink("busybox", join(tree, "bin/sh"));
    await writeFile(join(tree, "etc/passwd"), "root:x:0:0:root:/root:/bin/sh\n");
    const rootfs = join(home.dir, "busybox.ext4");
    await runTool(["mkfs.ext4", "-q", "-F", "-d", tree, rootfs, "64M"], { timeoutMs: 60_000 });
    await home.ok(["image", "register", "busybox", "--rootfs", rootfs, "--kernel", kernel], BOOT);
    await home.ok(["vm", "run", "-d", "--name", "plain", "--image", "busybox"], BOOT);

    expect(await home.json(["vm", "show", "plain"])).toMatchObject({ agent: "answers" });
    expect(await inGuest("plain", "busybox cat /proc/1/comm; busybox hostname; busybox pwd")).toBe(
      "banger-agent\nplain\n/root",
    );
    const mounts = await inGuest("plain", "busybox awk '{ print $2, $3 }' /proc/mounts");
    expect(mounts.split("\n")).toEqual(
      expect.arrayContaining(["/ ext4", "/proc proc", "/sys sysfs", "/dev devtmpfs", "/run tmpfs", "/root ext4"]),
    );
    expect(
      await inGuest("plain", "busybox ip -4 addr show eth0; busybox ip -4 addr show lo; busybox ip route"),
    ).toMatch(/inet 10\.0\.2\.15\/24 [^]*inet 127\.0\.0\.1\/8 [^]*default via 10\.0\.2\.2 dev eth0/);
    expect(await inGuest("plain", "busybox cat /etc/resolv.conf /dev/fd/0 < /etc/passwd")).toMatch(
      /^# banger\nnameserver 10\.0\.2\.3\nroot:x:0:0:/,
    );

    // An orphan is the init's; once it has ended, nothing of it is left.
    const orphan = await inGuest(
      "plain",
      "busybox setsid busybox sh -c 'busybox sh -c \"echo \\$\\$; exec busybox sleep 0.2 >&- 2>&-\" &'",
    );
    expect(orphan).toMatch(/^\d+$/);
    expect(await inGuest("plain", `while [ -d /proc/${orphan} ]; do busybox usleep 50000; done; echo gone`)).toBe(
      "gone",
    );

    await inGuest("plain", "echo kept > /root/kept; echo kept > /kept");
    await home.ok(["vm", "stop", "plain"], BOOT);
    expect(await home.json(["vm", "show", "plain"])).toMatchObject({ state: "stopped" });
    expect(await home.ok(["vm", "logs", "plain"])).toContain("reboot: Power down");
    // Unmounted, so there is no journal to replay.
    await runTool(["e2fsck", "-n", await diskOf("plain")], { timeoutMs: 60_000 });
    const { stdout } = await runTool(["dumpe2fs", "-h", await diskOf("plain")], { timeoutMs: 60_000 });
    expect(stdout).toMatch(/Filesystem state:\s+clean\n/);
    expect(stdout).not.toContain("needs_recovery");
    await home.ok(["vm", "start", "plain"], BOOT);
    expect(await inGuest("plain", "busybox cat /root/kept /kept")).toBe("kept\nkept");
    await home.ok(["vm", "kill", "plain"]);
  },
  TEST_TIMEOUT_MS,
);

test(
  "a kernel with another's initrd boots by that, and is reached by ssh",
  async () => {
    const foreign = writeCpio([
      ...["bin", "dev", "drivers", "new", "proc"].map((path) => ({ path, mode: DIRECTORY })),
      { path: "bin/busybox", mode: EXECUTABLE, contents: contentsOf("bin/busybox") },
      { path: "init", mode: EXECUTABLE, contents: Buffer.from(init.replaceAll("/modules/", "/drivers/")) },
      ...initrd
        .filter(({ path }) => path.startsWith("modules/"))
        .map((entry) => ({ ...entry, path: entry.path.replace("modules/", "drivers/") })),
    ]);
    await writeFile(join(home.dir, "foreign.img"), foreign);
    await home.ok(
      [
        "kernel",
        "import",
        "foreign",
        "--from",
        join(kernelDir(), "vmlinux"),
        "--initrd",
        join(home.dir, "foreign.img"),
      ],
      BOOT,
    );
    await home.ok(["vm", "run", "-d", "--name", "other", "--kernel", "foreign"], BOOT);
    expect((await home.json<{ agent: string | null }>(["vm", "show", "other"])).agent).not.toBe("answers");
    expect(
      await inGuest(
        "other",
        "cat /proc/1/comm; ls -d /run/banger/agent-did 2>&1; systemctl is-active banger-work; ls -A /root",
      ),
    ).toMatch(/^systemd\nls: cannot access [^\n]*\nactive\n[^]*lost\+found$/);
    await home.ok(["vm", "stop", "other"], BOOT);
  },
  TEST_TIMEOUT_MS,
);

test(
  "the image as an older banger made it: its own units are left out for what the agent did, and nothing fails",
  async () => {
    await home.ok(["vm", "run", "-d", "--name", "box"], BOOT);
    const units = ["banger-identity", "banger-network", "banger-work"];
    expect(
      await inGuest("box", `systemctl is-system-running --wait; systemctl is-active ${units.join(" ")} || true`),
    ).toBe("running\ninactive\ninactive\ninactive");
    expect(
      await inGuest("box", "ls /run/banger/agent-did; findmnt -n -o SOURCE,FSTYPE /root; cat /etc/resolv.conf"),
    ).toBe("identity\nnetwork\nwork\n/dev/vdb ext4\n# banger\nnameserver 10.0.2.3");

    // What the first command writes to /tmp is there when all of the boot is over, on disk or in memory.
    const stays = async (): Promise<string> => {
      await inGuest("box", "echo early > /tmp/early");
      return await inGuest("box", "systemctl is-system-running --wait; cat /tmp/early; findmnt -n -o FSTYPE -T /tmp");
    };
    await home.ok(["vm", "restart", "box"], BOOT);
    expect(await stays()).toBe("running\nearly\next4");
    // As Debian 12 has it: emptied at each boot, but not of what came since.
    await inGuest("box", "touch /tmp/old; echo 'D /tmp 1777 root root -' > /usr/lib/tmpfiles.d/tmp.conf");
    await home.ok(["vm", "restart", "box"], BOOT);
    expect(await inGuest("box", "ls -d /tmp/old 2>/dev/null || echo gone")).toBe("gone");
    expect(await stays()).toBe("running\nearly\next4");
    await inGuest("box", "rm /etc/systemd/system/tmp.mount");
    await home.ok(["vm", "restart", "box"], BOOT);
    expect(await stays()).toBe("running\nearly\ntmpfs");
    await home.ok(["vm", "stop", "box"], BOOT);
  },
  TEST_TIMEOUT_MS,
);
