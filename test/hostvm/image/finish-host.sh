# mmdebstrap customize hook: $1 is the finished tree of the test host, seen from outside. Leaves in $1/media/out what
# the harness needs: the disk, the kernel and the contents of its initrd.
set -eu
umask 077
root="$1"
out="$root/media/out"
mkdir -p "$out/modules"

set -- "$root"/boot/vmlinuz-*
release="${1##*/vmlinuz-}"
cp "$root/boot/vmlinuz-$release" "$out/vmlinuz"
cp "$root/usr/bin/busybox" "$out/busybox"
# Numbered in the order in which they must be loaded, because a directory has no order.
number=10
chroot "$root" modprobe --show-depends --all --set-version "$release" \
  ext4 virtio_mmio virtio_pci virtio_blk virtio_net virtio_rng vmw_vsock_virtio_transport > "$out/order"
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

# The owner and another user: the tests check privileges between them.
chroot "$root" useradd --create-home --shell /bin/bash --uid 1000 dev
chroot "$root" useradd --create-home --shell /bin/bash --uid 1001 other
chroot "$root" systemctl enable systemd-networkd.service systemd-resolved.service ssh.service
ln -sf ../run/systemd/resolve/stub-resolv.conf "$root/etc/resolv.conf"
echo hostvm > "$root/etc/hostname"
printf '127.0.0.1 localhost hostvm\n' > "$root/etc/hosts"
printf '/dev/vda / ext4 defaults,noatime 0 1\n' > "$root/etc/fstab"
chmod 644 "$root/etc/hostname" "$root/etc/hosts" "$root/etc/fstab"

# Not needed by a host that lives for half a minute.
for unit in apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer fstrim.timer e2scrub_all.timer \
  e2scrub_reap.service systemd-tmpfiles-clean.timer getty@tty1.service serial-getty@ttyS0.service \
  systemd-networkd-wait-online.service systemd-update-done.service ldconfig.service \
  systemd-hwdb-update.service systemd-journal-catalog-update.service systemd-pstore.service; do
  ln -sf /dev/null "$root/etc/systemd/system/$unit"
done
rm -rf "$root"/boot/* "$root"/var/cache/apt/archives/*.deb "$root"/var/lib/apt/lists/* "$root/usr/lib/udev/hwdb.bin"
# Its own machine id, made here: with an empty one, every boot would be a first boot.
tr -d - < /proc/sys/kernel/random/uuid > "$root/etc/machine-id"
chmod 444 "$root/etc/machine-id"

# A second view of the tree, without its mounts and without this directory.
view="$root/mnt"
mount --bind "$root" "$view"
mount -t tmpfs -o mode=755 none "$view/media"
mkfs.ext4 -q -F -L hostvm -b 4096 -m 0 -E lazy_itable_init=1,lazy_journal_init=1,root_owner=0:0 \
  -d "$view" "$out/root.img" 16G
umount "$view/media"
umount "$view"
tune2fs -E mount_opts=noinit_itable "$out/root.img" > /dev/null
