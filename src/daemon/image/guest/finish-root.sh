# mmdebstrap customize hook: $1 is the finished tree, seen from outside it, as root of mmdebstrap's namespaces.
# Leaves in $1/media/out what the host takes away: the file system, and the kernel with what its initrd needs.
# Nothing is interpolated into this text.
set -eu
umask 077
root="$1"
# Without root this begins in a directory that the namespace's root can't enter again, and find ends where it began.
cd "$root"
out="$root/media/out"
mkdir -p "$out/modules"

set -- "$root"/boot/vmlinuz-*
release="${1##*/vmlinuz-}"
printf '%s\n' "$release" > "$out/release"
cp "$root/boot/vmlinuz-$release" "$out/vmlinuz"
cp "$root/boot/config-$release" "$out/config"
cp "$root/usr/bin/busybox" "$out/busybox"
# In the order in which they must be loaded; numbered, since a directory has none.
number=10
chroot "$root" modprobe --show-depends --all --set-version "$release" \
  virtio_mmio virtio_blk virtio_net virtio_rng vmw_vsock_virtio_transport > "$out/order"
while read -r action module _; do
  [ "$action" = insmod ] || continue
  name="${module##*/}"
  name="${name%%.ko*}"
  [ -z "$(find "$out/modules" -name "*-$name.ko")" ] || continue
  case "$module" in
    *.xz) xz -dc "$root$module" > "$out/modules/$number-$name.ko" ;;
    *.zst) zstd -qdc "$root$module" > "$out/modules/$number-$name.ko" ;;
    *) cp "$root$module" "$out/modules/$number-$name.ko" ;;
  esac
  number=$((number + 1))
done < "$out/order"

# The host boots the guest: a newer kernel inside would never run, and upgrading one is slow.
chroot "$root" dpkg-query -W -f '${Package}\n' 'linux-image-*' | xargs chroot "$root" apt-mark hold > /dev/null

# What must not be the same in every VM, belongs to this host, or can be had again.
rm -f "$root"/etc/ssh/ssh_host_*_key "$root"/etc/ssh/ssh_host_*_key.pub "$root"/boot/* \
  "$root/vmlinuz" "$root/vmlinuz.old" "$root/initrd.img" "$root/initrd.img.old" \
  "$root/etc/hostname" "$root/etc/resolv.conf" "$root/etc/apt/sources.list" "$root/etc/systemd/system/sshd.service" \
  "$root"/var/cache/apt/*.bin "$root"/var/cache/apt/archives/*.deb "$root"/var/cache/ldconfig/aux-cache \
  "$root/var/lib/systemd/random-seed" "$root/var/lib/dbus/machine-id" "$root/etc/apt/apt.conf.d/99mmdebstrap"
find "$root/var/lib/apt/lists" -mindepth 1 -delete
find "$root/var/log" -type f -delete
# Not mmdebstrap's own settings for apt: without them the next apt would work on the lists of the host.
find "$root/tmp" "$root/run" -mindepth 1 -xdev ! -name 'mmdebstrap.apt.conf.*' -delete
: > "$root/etc/machine-id"
# Documented in hwdb(7): without the binary database udev looks nothing up, and a virtual machine has nothing to look up.
rm -f "$root/usr/lib/udev/hwdb.bin" "$root/etc/udev/hwdb.bin"

# A second view of the tree, without what is mounted on it and without this directory.
view="$root/mnt"
mount --bind "$root" "$view"
mount -t tmpfs -o mode=755 none "$view/media"
mount -t tmpfs -o mode=1777 none "$view/tmp"
used_kib=$(du -skx "$view" | cut -f1)
# Sizes of a large file system: by itself mkfs would choose those of a small one, and this one grows.
mkfs.ext4 -q -F -L banger-root -b 4096 -i 16384 -I 256 -m 1 -E lazy_itable_init=1,lazy_journal_init=1,root_owner=0:0 \
  -d "$view" "$out/rootfs.ext4" "$((used_kib + used_kib / 6 + 65536))k"
umount "$view/tmp"
umount "$view/media"
umount "$view"
# Zeroing inode tables in the background would fill every VM's overlay with zeros that are there already.
tune2fs -E mount_opts=noinit_itable "$out/rootfs.ext4" > /dev/null
