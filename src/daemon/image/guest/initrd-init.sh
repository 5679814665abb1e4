#!/bin/busybox sh
# First process of banger's initrd: loads the drivers, mounts the root disk, hands over to its init.
b=/bin/busybox
$b mount -t devtmpfs dev /dev
$b mount -t proc proc /proc
for module in /modules/*.ko; do
  $b insmod "$module"
done
root=/dev/vda
init=/sbin/init
read -r arguments < /proc/cmdline
for argument in $arguments; do
  case "$argument" in
    root=*) root="${argument#root=}" ;;
    init=*) init="${argument#init=}" ;;
  esac
done
tries=0
until $b mount -t ext4 -o rw "$root" /new; do
  tries=$((tries + 1))
  if [ "$tries" -gt 100 ]; then
    echo "banger: no root file system on $root"
    exit 1
  fi
  $b sleep 0.1
done
$b umount /proc
$b mount -o move /dev /new/dev
exec $b switch_root /new "$init"
