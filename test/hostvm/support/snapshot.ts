/** Describes a host as lines to compare: anything left behind is an extra line. */

import type { Host } from "../host.ts";

/**
 * What the host has, without what comes and goes on its own: logins, the journal, systemd's own records, services that
 * a timer starts, an interface's carrier.
 */
const LOOK = `
  find / -ignore_readdir_race -xdev \\( -path /proc -o -path /sys -o -path /dev -o -path /tmp -o -path /var/tmp -o -path /var/log -o -path /run \
    -o -path /var/lib/systemd -o -path /var/cache/ldconfig -o -path /root -o -path /payload -o -path /usr/share -o -path /usr/lib \\) -prune \
    -o -printf 'file %p %y %#m %U:%G %l\\n'
  find /run -ignore_readdir_race -xdev \\( -path /run/systemd -o -path /run/udev -o -path /run/log -o -path /run/user -o -path /run/dbus \
    -o -path /run/utmp -o -path /run/sshd -o -path /run/credentials -o -path /run/mount \\) -prune -o -printf 'file %p %y %#m %U:%G %l\\n'
  find /etc -xdev -type f -exec sha256sum {} + | sed 's/^/contents /'
  systemctl list-units --all --no-legend --plain --type=service,socket,slice,scope \
    | awk '$1 !~ /^(session-|user@|user-|user.slice|modprobe@|run-|ssh@|systemd-|system-modprobe|apt-|dpkg-|e2scrub|fstrim|logrotate|man-db|dbus|emergency|initrd|rc-local)/ { print "unit", $1, $3 }'
  ip -o link | awk '{ print "link", $2, $3 ~ /[<,]UP[,>]/ ? "up" : "down" }'
  { grep -Hs . /sys/class/net/*/ifalias || true; } | sed 's/^/alias /'
  ip -o address | awk '{ print "address", $2, $4 }'
  ip route | sed 's/^/route /'
  iptables-save | sed -nE 's/\\[[0-9:]*\\]//; s/^(-A|:[^ ]+ -|:[^ ]+ DROP)/rule &/p'
  nft list tables | sed -n '/^table ip6* \\(filter\\|nat\\|mangle\\|raw\\|security\\)$/d; /^table bridge filter$/d; s/^/nft /p'
  ebtables -L | sed -n 's/^-[ps!].*/ebtables &/p'
  ip rule show | sed 's/^/policy /'
  ip neighbour show nud permanent | sed 's/^/neighbour /'
  grep -H . /proc/sys/net/ipv4/ip_forward /proc/sys/net/ipv4/conf/*/forwarding /proc/sys/net/ipv4/conf/*/src_valid_mark | sed 's/^/switch /'
  dmsetup ls | sed '/^No devices found/d; s/^/dm /'
  losetup -a | sed 's/^/loop /'
  awk '$2 !~ "^/run/(user|credentials)" { print "mount", $2, $3 }' /proc/1/mounts
  find /sys/fs/cgroup -ignore_readdir_race -type d | sed -E '/user\\.slice|modprobe|systemd-|(apt-|dpkg-|e2scrub|fstrim|logrotate|man-db)[^/]*\\.service/d; s/^/cgroup /'
  ps -eo user:32,args | sed -n 's/^\\(.*[b]anger.*\\)/process \\1/p'
`;

/** Returns the sorted lines of {@link LOOK}. */
export async function takeSnapshot(host: Host): Promise<ReadonlySet<string>> {
  const text = await host.sh(LOOK, [], { timeoutMs: 300_000 });
  return new Set(
    text
      .split("\n")
      .filter((line) => line !== "")
      .sort(),
  );
}

/** Lists the differences: `+ line` for new, `- line` for gone. */
export function differences(before: ReadonlySet<string>, after: ReadonlySet<string>): readonly string[] {
  return [
    ...[...after].filter((line) => !before.has(line)).map((line) => `+ ${line}`),
    ...[...before].filter((line) => !after.has(line)).map((line) => `- ${line}`),
  ];
}
