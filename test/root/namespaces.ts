/**
 * sysfs shows the network namespace in which it was mounted. The host's cgroups stay mounted. Each run has its own named
 * namespaces, so a run that was cut short leaves none for the next.
 */
const MOUNT_SYSFS = `mount --rbind /sys/fs/cgroup /mnt
  mount -t sysfs sysfs /sys
  mount --move /mnt /sys/fs/cgroup
  mkdir -p /run/netns
  mount -t tmpfs tmpfs /run/netns
  exec "$@"`;
/** The command prefix for the tests in this folder: mount and network namespaces, with their own sysfs. */
export const NAMESPACES: readonly string[] = [
  ...["unshare", "--mount", "--net", "--propagation", "private", "--"],
  ...["sh", "-ec", MOUNT_SYSFS, "sh"],
];
