/**
 * The test host's disk, kernel and initrd: built once from the Debian archive and kept under test/.cache, by a hash of
 * all inputs. Source: mmdebstrap(1), systemd.network(5).
 */

import { existsSync } from "node:fs";
import { chmod, mkdir, mkdtemp, readdir, readFile, rename, rm, stat, writeFile } from "node:fs/promises";
import { join, resolve } from "node:path";
import { chooseBuildMode } from "../../src/daemon/image/build-mode.ts";
import { ARCHIVE_KEYRING } from "../../src/shared/host-needs.ts";
import { writeTar } from "../../src/daemon/image/write-tar.ts";
import { decompressByTool } from "../../src/daemon/kernel/decompress.ts";
import { extractKernel } from "../../src/daemon/kernel/extract.ts";
import { makeInitrd } from "../../src/daemon/kernel/make-initrd.ts";
import { runTool, tryTool } from "../../src/daemon/host/run-tool.ts";
import finishHost from "./image/finish-host.sh" with { type: "text" };

export const CACHE_DIR = resolve(import.meta.dir, "../.cache");

/** What a boot needs. All paths are absolute. */
export interface HostImage {
  /** Raw and never written to: hosts run on an overlay. */
  readonly diskPath: string;
  /** bzImage. */
  readonly kernelPath: string;
  readonly initrdPath: string;
  /** The same kernel as an ELF file, which Firecracker needs for guests inside the host. */
  readonly guestKernelPath: string;
  readonly busyboxPath: string;
  /** Private key of root and of both users inside. */
  readonly sshKeyPath: string;
  /** Pins the host's key. */
  readonly knownHostsPath: string;
}

const SUITE = "bookworm";
const PACKAGES: readonly string[] = [
  ...["systemd", "systemd-sysv", "udev", "dbus", "systemd-resolved", "libnss-resolve", "openssh-server"],
  ...["linux-image-cloud-amd64", "busybox-static", "kmod", "zstd", "xz-utils", "lz4"],
  // What the installed product needs.
  ...[
    "iproute2",
    "iptables",
    "nftables",
    "dmsetup",
    "e2fsprogs",
    "openssh-client",
    "mount",
    "util-linux",
    "qemu-utils",
  ],
  // What scenarios use to inspect and attack.
  ...["acl", "procps", "psmisc", "lsof", "python3", "inotify-tools", "curl", "socat", "git", "iputils-ping", "strace"],
  ...[
    "bsdextrautils",
    "xfsprogs",
    "netcat-openbsd",
    "bind9-dnsutils",
    "sudo",
    "attr",
    "file",
    "less",
    "ca-certificates",
  ],
];

const NETWORK = `[Match]
Name=en* eth*

[Network]
Address=10.0.2.15/24
Gateway=10.0.2.2
LinkLocalAddressing=no
IPv6AcceptRA=no
`;

const SSHD = `PermitRootLogin prohibit-password
PasswordAuthentication no
UseDNS no
GSSAPIAuthentication no
MaxSessions 200
MaxStartups 200
PrintMotd no
PrintLastLog no
HostKey /etc/ssh/ssh_host_ed25519_key
`;

/** Logs must survive a crash of the host, and none may be dropped. */
const JOURNALD = `[Journal]
Storage=persistent
RateLimitIntervalSec=0
SyncIntervalSec=1s
`;

const BUILD_TIMEOUT_MS = 20 * 60_000;
const TOOL_TIMEOUT_MS = 120_000;

/**
 * Returns the image, and builds it if the cache has none for these sources (about two minutes).
 * @throws BangerError TOOL_MISSING; HOST_UNSUPPORTED; FAILED with mmdebstrap's output
 */
export async function ensureHostImage(say: (message: string) => void, signal: AbortSignal): Promise<HostImage> {
  const directory = join(CACHE_DIR, `hostvm-${await sourceHash()}`);
  if (!existsSync(directory)) {
    say("building the test host from the Debian archive");
    await mkdir(CACHE_DIR, { recursive: true });
    const staging = await mkdtemp(join(CACHE_DIR, "hostvm-building-"));
    try {
      await buildHostImage(staging, signal);
      await rename(staging, directory).catch((thrown: unknown) => {
        // Another run finished first.
        if (!existsSync(directory)) throw thrown;
      });
    } finally {
      await rm(staging, { recursive: true, force: true });
    }
    await removeOldImages(directory);
  }
  return {
    diskPath: join(directory, "root.img"),
    kernelPath: join(directory, "vmlinuz"),
    initrdPath: join(directory, "initrd"),
    guestKernelPath: join(directory, "vmlinux"),
    busyboxPath: join(directory, "busybox"),
    sshKeyPath: join(directory, "id"),
    knownHostsPath: join(directory, "known_hosts"),
  };
}

async function sourceHash(): Promise<string> {
  const hash = new Bun.CryptoHasher("sha256");
  for (const path of [
    import.meta.path,
    join(import.meta.dir, "image/finish-host.sh"),
    resolve(import.meta.dir, "../../src/daemon/image/guest/initrd-init.sh"),
    resolve(import.meta.dir, "../../src/daemon/kernel/make-initrd.ts"),
  ]) {
    hash.update(await readFile(path));
  }
  return hash.digest("hex").slice(0, 16);
}

/** Removes images of other sources, except those of a run that started less than a day ago, which may be in use. */
async function removeOldImages(kept: string): Promise<void> {
  const dayAgo = Date.now() - 24 * 3600_000;
  for (const name of await readdir(CACHE_DIR)) {
    const path = join(CACHE_DIR, name);
    if (!name.startsWith("hostvm-") || path === kept) continue;
    if ((await stat(path)).mtimeMs > dayAgo) continue;
    await rm(path, { recursive: true, force: true });
  }
}

async function buildHostImage(staging: string, signal: AbortSignal): Promise<void> {
  const mode = await chooseBuildMode(signal);
  const tool = { timeoutMs: TOOL_TIMEOUT_MS };
  for (const name of ["id", "host"])
    await runTool(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "hostvm", "-f", join(staging, name)], tool);
  const authorized = await readFile(join(staging, "id.pub"), "utf8");
  const hostKey = await readFile(join(staging, "host"), "utf8");
  const hostPublicKey = await readFile(join(staging, "host.pub"), "utf8");
  await writeFile(join(staging, "known_hosts"), `hostvm ${hostPublicKey}`);
  await writeFile(
    join(staging, "files.tar"),
    writeTar([
      { kind: "file", path: "etc/systemd/network/10-host.network", mode: 0o644, contents: NETWORK },
      { kind: "file", path: "etc/ssh/sshd_config.d/10-hostvm.conf", mode: 0o644, contents: SSHD },
      { kind: "file", path: "etc/systemd/journald.conf.d/hostvm.conf", mode: 0o644, contents: JOURNALD },
      { kind: "file", path: "etc/ssh/ssh_host_ed25519_key", mode: 0o600, contents: hostKey },
      { kind: "file", path: "etc/ssh/ssh_host_ed25519_key.pub", mode: 0o644, contents: hostPublicKey },
      { kind: "directory", path: "root/.ssh", mode: 0o700 },
      { kind: "file", path: "root/.ssh/authorized_keys", mode: 0o600, contents: authorized },
      { kind: "file", path: "etc/ssh/authorized_keys", mode: 0o644, contents: authorized },
      {
        kind: "file",
        path: "etc/ssh/sshd_config.d/20-users.conf",
        mode: 0o644,
        contents: "AuthorizedKeysFile .ssh/authorized_keys /etc/ssh/authorized_keys\n",
      },
    ]),
  );
  const source = (mirror: string, suite: string): string =>
    `deb [signed-by=${ARCHIVE_KEYRING}] ${mirror} ${suite} main`;
  // Not /tmp, which is in memory on many hosts.
  const buildDir = await mkdtemp("/var/tmp/banger-hostvm-build-");
  try {
    if (mode === "unshare") await chmod(buildDir, 0o1733);
    const argv = [
      ...["mmdebstrap", "--verbose", `--mode=${mode}`, "--variant=minbase", "--format=null"],
      `--include=${PACKAGES.join(",")}`,
      '--aptopt=APT::Install-Recommends "false"',
      ...["man", "locale", "doc", "info"].map((name) => `--dpkgopt=path-exclude=/usr/share/${name}/*`),
      "--customize-hook=tar-in files.tar /",
      `--customize-hook=${finishHost}`,
      "--customize-hook=copy-out /media/out .",
      ...[SUITE, "-", source("http://deb.debian.org/debian", SUITE)],
      source("http://deb.debian.org/debian", `${SUITE}-updates`),
      source("http://deb.debian.org/debian-security", `${SUITE}-security`),
    ];
    const contained =
      mode === "unshare"
        ? ["setpriv", "--pdeathsig", "TERM"]
        : [
            ...["setpriv", "--pdeathsig", "KILL", "unshare", "--mount", "--pid", "--mount-proc", "--fork"],
            "--kill-child=KILL",
          ];
    await runTool([...contained, ...argv], {
      timeoutMs: BUILD_TIMEOUT_MS,
      signal,
      cwd: staging,
      // With this, the kernel's package makes no initrd.
      env: { TMPDIR: buildDir, INITRD: "No", DEBIAN_FRONTEND: "noninteractive" },
    });
  } finally {
    await tryTool(
      mode === "unshare"
        ? ["mmdebstrap", "--unshare-helper", "rm", "-rf", "--one-file-system", "--", buildDir]
        : ["rm", "-rf", "--one-file-system", "--", buildDir],
      { timeoutMs: TOOL_TIMEOUT_MS },
    );
  }
  const out = join(staging, "out");
  const modules = (await readdir(join(out, "modules"))).sort();
  const busybox = await readFile(join(out, "busybox"));
  await writeFile(
    join(staging, "initrd"),
    makeInitrd({
      busybox,
      modules: await Promise.all(
        modules.map(async (name) => ({ name, contents: await readFile(join(out, "modules", name)) })),
      ),
    }),
  );
  await writeFile(
    join(staging, "vmlinux"),
    await extractKernel(await readFile(join(out, "vmlinuz")), decompressByTool),
  );
  for (const name of ["root.img", "vmlinuz", "busybox"]) await rename(join(out, name), join(staging, name));
  await runTool(["fallocate", "--dig-holes", join(staging, "root.img")], { timeoutMs: TOOL_TIMEOUT_MS });
  await rm(out, { recursive: true });
  for (const name of ["files.tar", "host", "host.pub"]) await rm(join(staging, name));
}
