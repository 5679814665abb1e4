#!/bin/sh
# Mounts the work disk on /root. Repairing it is the guest's own business: the host opens no file system that a guest has written.
set -eu
device=/dev/vdb
mount_work() { mount -t ext4 -o noinit_itable "$device" /root; }
repair() {
  echo "banger: checking the work disk"
  e2fsck -p "$device" || [ "$?" -lt 4 ]
}
if ! mount_work; then
  if ! repair || ! mount_work; then
    # Not the root disk's own /root: what is written there would be hidden after the repair.
    mount -t tmpfs -o mode=700,size=64k banger-work /root
    cat > /root/WORK-DISK-NOT-MOUNTED << 'END'
The work disk (/dev/vdb) has no file system that can be mounted, so /root is empty and read-only. To repair it:

    umount /root; e2fsck /dev/vdb; systemctl restart banger-work
END
    mount -o remount,ro /root
    echo "banger: the work disk can't be mounted"
    exit 1
  fi
elif read -r errors < "/sys/fs/ext4/${device##*/}/errors_count" && [ "$errors" != 0 ]; then
  umount /root
  repair || true
  mount_work
fi
# The host made the disk larger. (banger-grow.service sees to it, too, but after the first command.)
if [ -e /run/banger/grown ]; then
  resize2fs "$device" > /dev/null || true
fi
# The files that a new VM begins with. The host leaves them out once the VM has been reached.
if [ -e /run/banger/has-files ]; then
  tar -xpf /run/banger/disk -C /root --strip-components=1 root
fi
