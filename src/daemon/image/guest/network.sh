#!/bin/sh
# Gives the interface named in the kernel argument ip=CLIENT::GATEWAY:NETMASK::DEVICE:off:DNS its address.
# Source of the format: the kernel's Documentation/admin-guide/nfs/nfsroot.rst.
set -eu
read -r arguments < /proc/cmdline
setting=
for argument in $arguments; do
  case "$argument" in
    ip=*:*) setting="${argument#ip=}" ;;
  esac
done
[ -n "$setting" ] || exit 0
IFS=: read -r address _ gateway netmask _ device _ dns _ << END
$setting
END
device="${device:-eth0}"
tries=0
while [ ! -e "/sys/class/net/$device" ] && [ "$tries" -lt 100 ]; do
  tries=$((tries + 1))
  sleep 0.1
done
ip -batch - << END
addr replace $address/$netmask dev $device
link set $device up
${gateway:+route replace default via $gateway dev $device}
END
# A file that somebody made his own stays as it is.
if [ -n "$dns" ] && { [ ! -e /etc/resolv.conf ] || grep -qs '^# banger' /etc/resolv.conf; }; then
  printf '# banger\nnameserver %s\n' "$dns" > /etc/resolv.conf
fi
