/** What banger puts into an image's root file system: its units, its settings, and what it switches off. */

import afterSsh from "./guest/after-ssh.conf" with { type: "text" };
import bangerGrow from "./guest/banger-grow.service" with { type: "text" };
import bangerIdentity from "./guest/banger-identity.service" with { type: "text" };
import bangerNetwork from "./guest/banger-network.service" with { type: "text" };
import bangerVsock from "./guest/banger-vsock.socket" with { type: "text" };
import bangerVsockSession from "./guest/banger-vsock@.service" with { type: "text" };
import bangerWork from "./guest/banger-work.service" with { type: "text" };
import debianSources from "./guest/debian.sources" with { type: "text" };
import identity from "./guest/identity.sh" with { type: "text" };
import journald from "./guest/journald.conf" with { type: "text" };
import modulesLoad from "./guest/modules-load.conf" with { type: "text" };
import network from "./guest/network.sh" with { type: "text" };
import profile from "./guest/profile.sh" with { type: "text" };
import sandbox from "./guest/sandbox.slice" with { type: "text" };
import ssh from "./guest/ssh.service" with { type: "text" };
import sshd from "./guest/sshd-banger.conf" with { type: "text" };
import udevTrigger from "./guest/udev-trigger.conf" with { type: "text" };
import work from "./guest/work.sh" with { type: "text" };
import { parentsOf, type TarEntry } from "./write-tar.ts";

/** The unit that reads the identity disk: a guest of an image without it can't be given keys that way. */
export const IDENTITY_UNIT = "banger-identity.service";

/** banger's units in an image, started at boot or by another of them (null); named in the image's manifest. */
const UNITS: readonly { readonly name: string; readonly text: string; readonly wantedBy: string | null }[] = [
  { name: "banger-grow.service", text: bangerGrow, wantedBy: "multi-user.target" },
  { name: IDENTITY_UNIT, text: bangerIdentity, wantedBy: "sysinit.target" },
  { name: "banger-network.service", text: bangerNetwork, wantedBy: "sysinit.target" },
  { name: "banger-vsock.socket", text: bangerVsock, wantedBy: "sysinit.target" },
  { name: "banger-vsock@.service", text: bangerVsockSession, wantedBy: null },
  { name: "banger-work.service", text: bangerWork, wantedBy: "sysinit.target" },
  { name: "sandbox.slice", text: sandbox, wantedBy: null },
  { name: "ssh.service", text: ssh, wantedBy: "sysinit.target" },
];

export const UNIT_NAMES: readonly string[] = UNITS.map(({ name }) => name);

/** Units that a sandbox has no use for; each costs a process or more at every boot. */
const MASKED_UNITS: readonly string[] = [
  // Consoles nobody logs in at: the way in is ssh.
  ...[
    "getty.target",
    "getty-static.service",
    "getty@tty1.service",
    "serial-getty@ttyS0.service",
    "console-getty.service",
  ],
  // Measured boot, firmware and first-boot questions: there is no TPM, no firmware and nobody to ask.
  ...["systemd-pcrextend.socket", "systemd-pcrlock.socket", "systemd-pcrmachine.service", "systemd-pcrphase.service"],
  ...["systemd-pcrphase-sysinit.service", "systemd-tpm2-setup.service", "systemd-tpm2-setup-early.service"],
  ...["systemd-pstore.service", "systemd-firstboot.service", "systemd-hibernate-clear.service"],
  // Caches that the build leaves complete.
  ...["ldconfig.service", "systemd-hwdb-update.service", "systemd-journal-catalog-update.service"],
  ...["systemd-sysusers.service", "systemd-update-done.service", "systemd-journal-flush.service"],
  // File systems for debugging, and a /tmp that would take a small guest's memory.
  ...[
    "dev-hugepages.mount",
    "sys-kernel-debug.mount",
    "sys-kernel-tracing.mount",
    "sys-kernel-config.mount",
    "tmp.mount",
  ],
  ...["modprobe@.service", "kmod-static-nodes.service", "systemd-remount-fs.service", "run-lock.mount"],
  // Password questions, and the host's own entropy is there by virtio.
  ...["systemd-ask-password-console.path", "systemd-ask-password-wall.path", "systemd-random-seed.service"],
  // The address comes from banger-network.service.
  ...["systemd-networkd.service", "systemd-networkd.socket", "systemd-networkd-wait-online.service"],
  ...["systemd-network-generator.service", "sshd-keygen.service", "ssh.socket"],
  // Housekeeping that wakes a short-lived machine.
  ...["apt-daily.timer", "apt-daily-upgrade.timer", "dpkg-db-backup.timer", "fstrim.timer", "e2scrub_all.timer"],
  ...["e2scrub_reap.service", "man-db.timer", "systemd-tmpfiles-clean.timer"],
  ...["systemd-creds.socket", "systemd-sysext.socket", "systemd-initctl.socket", "systemd-hostnamed.socket"],
];

/** Generators run one process each before the first unit starts; only the fstab one has something to say here. */
const MASKED_GENERATORS: readonly string[] = [
  ...["debug", "getty", "gpt-auto", "hibernate-resume", "rc-local", "run", "ssh", "system-update", "sysv", "tpm2"].map(
    (name) => `systemd-${name}-generator`,
  ),
];

/** Units that wait until the guest is ready. */
const LATE_UNITS: readonly string[] = [
  "systemd-logind.service",
  "systemd-modules-load.service",
  "systemd-sysctl.service",
  "systemd-tmpfiles-setup-dev.service",
  "systemd-tmpfiles-setup-dev-early.service",
  "systemd-tmpfiles-setup.service",
  "systemd-udevd.service",
  "dbus.service",
  "systemd-user-sessions.service",
  "systemd-binfmt.service",
];

const file = (path: string, contents: string, mode = 0o644): TarEntry => ({ kind: "file", path, contents, mode });
const link = (path: string, target: string): TarEntry => ({ kind: "link", path, target });
const SYSTEM = "etc/systemd/system";

/** The entries of the archive that is unpacked over the finished tree, in order. */
export function guestFiles(): readonly TarEntry[] {
  const units = UNITS.flatMap(({ name, text, wantedBy }) => [
    file(`${SYSTEM}/${name}`, text),
    ...(wantedBy === null ? [] : [link(`${SYSTEM}/${wantedBy}.wants/${name}`, `../${name}`)]),
  ]);
  const entries: TarEntry[] = [
    file("usr/lib/banger/identity", identity, 0o755),
    file("usr/lib/banger/network", network, 0o755),
    file("usr/lib/banger/work", work, 0o755),
    ...units,
    link(`${SYSTEM}/default.target`, "/usr/lib/systemd/system/multi-user.target"),
    ...MASKED_UNITS.map((unit) => link(`${SYSTEM}/${unit}`, "/dev/null")),
    ...MASKED_GENERATORS.map((name) => link(`etc/systemd/system-generators/${name}`, "/dev/null")),
    ...LATE_UNITS.map((unit) => file(`${SYSTEM}/${unit}.d/banger.conf`, afterSsh)),
    file(`${SYSTEM}/systemd-udev-trigger.service.d/banger.conf`, udevTrigger),
    file("etc/systemd/journald.conf.d/banger.conf", journald),
    file("etc/modules-load.d/banger.conf", modulesLoad),
    file("etc/ssh/sshd_config.d/banger.conf", sshd),
    file("etc/apt/sources.list.d/debian.sources", debianSources),
    file("etc/profile", profile),
    // The host's user.name and user.email, where it has them; ~/.gitconfig in the guest wins.
    file("etc/gitconfig", "[include]\n\tpath = /run/banger/gitconfig\n"),
    file("etc/default/locale", "LANG=C.UTF-8\n"),
    file("etc/fstab", "# The root disk is mounted by the kernel's initrd, the work disk by banger-work.service.\n"),
    file("etc/hosts", "127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\n"),
  ];
  const directories = parentsOf(entries.map(({ path }) => path));
  return [...directories.map((path): TarEntry => ({ kind: "directory", path, mode: 0o755 })), ...entries];
}
