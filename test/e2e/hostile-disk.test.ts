/** A guest's root owns its disks and may leave anything on them. The host opens none of it, and the VM can still be reached. */

import { afterAll, beforeAll, expect, test } from "bun:test";
import { randomBytes } from "node:crypto";
import { chmod, mkdir, open, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { runTool } from "../../src/daemon/host/run-tool.ts";
import { type Home, makeHomeWithImage } from "../support/banger.ts";

const PARSERS = ["debugfs", "e2fsck", "fsck.ext4", "resize2fs", "tune2fs", "dumpe2fs", "blkid"];
const BOOT = { timeoutMs: 300_000 };
const TEST_TIMEOUT_MS = 600_000;

let home: Home;
let disk: string;

beforeAll(async () => {
  home = await makeHomeWithImage();
  // Programs that note each call, first in the PATH of the daemon and of all that it starts.
  const recorders = join(home.dir, "recorders");
  await mkdir(recorders);
  await writeFile(join(home.dir, "called"), "");
  for (const name of PARSERS) {
    await writeFile(
      join(recorders, name),
      `#!/bin/sh\necho "${name} $*" >> ${home.dir}/called\nPATH=/usr/sbin:/usr/bin:/sbin:/bin exec ${name} "$@"\n`,
    );
    await chmod(join(recorders, name), 0o755);
  }
  Object.assign(home.env, { PATH: `${recorders}:${home.env["PATH"] ?? ""}` });
  await writeFile(join(home.dir, ".gitconfig"), "[user]\n\tname = Ada\n");
  await writeFile(join(home.dir, "token"), "for the guest", { mode: 0o600 });
  await mkdir(join(home.dir, ".config/banger"), { recursive: true });
  await writeFile(
    join(home.dir, ".config/banger/config.toml"),
    '[[file_sync]]\nhost = "~/token"\nguest = "~/.tokens/banger"\n',
  );
  await home.ok(["vm", "run", "-d", "--name", "box"], BOOT);
  const { id } = await home.json<{ id: string }>(["vm", "show", "box"]);
  disk = join(home.stateDir, "vms", id, "work.ext4");
}, 900_000);
afterAll(async () => {
  await home[Symbol.asyncDispose]();
});

const inGuest = async (command: string): Promise<string> =>
  (await home.ok(["exec", "box", "--", "sh", "-c", command])).trim();

test(
  "keys are in memory, for root only; a new VM has its files and the host's git name",
  async () => {
    expect(await inGuest("findmnt -n -o FSTYPE -T /run/banger/identity; stat -c %a:%u /run/banger/identity")).toBe(
      "tmpfs\n700:0",
    );
    expect(await inGuest("stat -c %a:%u:%n /run/banger/identity/ssh_host_ed25519_key /run/banger/disk -L")).toMatch(
      /^600:0:\S+\n6[046]0:0:\S+$/,
    );
    expect(await inGuest("setpriv --reuid=65534 --clear-groups cat /run/banger/disk 2>&1 || true")).toContain(
      "Permission denied",
    );
    expect(
      await inGuest("cat /sys/block/vdc/ro; ls -A /root | grep -v ssh; stat -c %a /root/.tokens /root/.tokens/banger"),
    ).toBe("1\n.hushlogin\n.tokens\nlost+found\n700\n600");
    expect(
      await inGuest("cat /root/.tokens/banger; git config user.name; cd /; setpriv --reuid=65534 git config user.name"),
    ).toBe("for the guestAda\nAda");
  },
  TEST_TIMEOUT_MS,
);

test(
  "changes that the guest made to its files stay, and its enlarged disk has its new size at the first command",
  async () => {
    await inGuest("echo mine > /root/.tokens/banger; rm /root/.hushlogin");
    await home.ok(["vm", "stop", "box"], BOOT);
    await home.ok(["vm", "set", "box", "--disk-size", "9G"]);
    await home.ok(["vm", "start", "box"], BOOT);
    expect(
      await inGuest("cat /root/.tokens/banger; ls /root/.hushlogin 2>/dev/null; df -BG --output=size /root | tail -1"),
    ).toMatch(/^mine\s+9G$/);
  },
  TEST_TIMEOUT_MS,
);

test(
  "after an unclean end with recorded errors, the guest repairs its file system",
  async () => {
    await inGuest("echo kept > /root/kept; sync");
    await home.ok(["vm", "kill", "box"]);
    // As the kernel notes an error it met: s_state and s_error_count. The superblock's checksum is made right by debugfs.
    await runTool(["debugfs", "-w", "-R", "ssv state 2", disk], { timeoutMs: 10_000 });
    await runTool(["debugfs", "-w", "-R", "ssv error_count 3", disk], { timeoutMs: 10_000 });
    await home.ok(["vm", "start", "box"], BOOT);
    expect(await inGuest("cat /root/kept /sys/fs/ext4/vdb/errors_count")).toBe("kept\n0");
  },
  TEST_TIMEOUT_MS,
);

test.each([
  ["random bytes", randomBytes(8 * 1024 * 1024)],
  ["nothing", new Uint8Array(8 * 1024 * 1024)],
])(
  "%s on the work disk: the guest is still reached, and says what is wrong",
  async (_, bytes) => {
    await home.ok(["vm", "kill", "box"]);
    const file = await open(disk, "r+");
    await file.write(bytes, 0, bytes.length, 0);
    await file.close();
    await home.ok(["vm", "start", "box"], BOOT);
    expect(await inGuest("ls -A /root; touch /root/x 2>&1 || true")).toMatch(
      /^WORK-DISK-NOT-MOUNTED\n.*Read-only file system$/,
    );
  },
  600_000,
);

test(
  "the repair that the guest suggests works",
  async () => {
    await inGuest(
      "mkfs.ext4 -q -F -L banger-work /dev/vdb; umount /root; systemctl restart banger-work; touch /root/x",
    );
    await home.ok(["vm", "restart", "box"], BOOT);
    expect(await inGuest("ls -A /root")).toContain("x");
  },
  TEST_TIMEOUT_MS,
);

test(
  "during all of this the host opened no file system",
  async () => {
    await home.ok(["gc"]);
    await home.run(["doctor"]);
    expect(await readFile(join(home.dir, "called"), "utf8")).toBe("");
  },
  TEST_TIMEOUT_MS,
);
