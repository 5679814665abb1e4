/** How a host stands, as lines to compare: a thing that is left behind is a line more. */

import type { Host } from "../host.ts";

/** Names that come and go by themselves: logins, the journal, systemd's own bookkeeping. */
const LOOK = `
  set +e +o pipefail
  find / -xdev \\( -path /proc -o -path /sys -o -path /dev -o -path /tmp -o -path /var/tmp -o -path /var/log -o -path /run \
    -o -path /var/lib/systemd -o -path /var/cache/ldconfig -o -path /root -o -path /payload -o -path /usr/share -o -path /usr/lib \\) -prune \
    -o -printf 'file %p %y %#m %U:%G %l\\n'
  find /run -xdev \\( -path /run/systemd -o -path /run/udev -o -path /run/log -o -path /run/user -o -path /run/dbus \
    -o -path /run/utmp -o -path /run/sshd -o -path /run/credentials -o -path /run/mount \\) -prune -o -printf 'file %p %y %#m %U:%G %l\\n'
  find /etc -xdev -type f -exec sha256sum {} + | sed 's/^/contents /'
  systemctl list-unit-files --no-legend --plain | awk '{ print "unit-file", $1, $2 }'
  systemctl list-units --all --no-legend --plain --type=service,socket,slice,scope,mount,path \
    | awk '{ print "unit", $1, $3 }' | grep -Ev 'unit (session-|user@|user-|user.slice|modprobe@|run-|ssh@|systemd-|system-modprobe|dbus|emergency|initrd|rc-local)'
  ip -o link | awk '{ print "link", $2, $9 }'
  ip -o address | awk '{ print "address", $2, $4 }'
  ip route | sed 's/^/route /'
  iptables-save | grep -E '^(-A|:[^ ]+ -|:[^ ]+ DROP)' | sed 's/\\[[0-9:]*\\]//; s/^/rule /'
  dmsetup ls | sed 's/^/dm /'
  losetup -a | sed 's/^/loop /'
  awk '{ print "mount", $2, $3 }' /proc/1/mounts | grep -v '/run/user\\|/run/credentials'
  find /sys/fs/cgroup -type d | grep -Ev 'user.slice|modprobe|systemd-|init.scope/' | sed 's/^/cgroup /'
  ps -eo user:32,args | grep -i '[b]anger' | sed 's/^/process /' || true
`;

/** Lines of {@link LOOK}, sorted. */
export async function takeSnapshot(host: Host): Promise<ReadonlySet<string>> {
  const text = await host.sh(LOOK, [], { timeoutMs: 180_000 });
  return new Set(
    text
      .split("\n")
      .filter((line) => line !== "")
      .sort(),
  );
}

/** What one has and the other hasn't: `+ line` for new, `- line` for gone. */
export function differences(before: ReadonlySet<string>, after: ReadonlySet<string>): readonly string[] {
  return [
    ...[...after].filter((line) => !before.has(line)).map((line) => `+ ${line}`),
    ...[...before].filter((line) => !after.has(line)).map((line) => `- ${line}`),
  ];
}
