/** sysfs shows the network namespace in which it was mounted. The host's cgroups stay mounted. */
const MOUNT_SYSFS = `mount --rbind /sys/fs/cgroup /mnt
  mount -t sysfs sysfs /sys
  mount --move /mnt /sys/fs/cgroup
  exec "$@"`;
/** The command prefix for the tests in this folder: mount and network namespaces, with their own sysfs. */
export const NAMESPACES: readonly string[] = [
  ...["unshare", "--mount", "--net", "--propagation", "private", "--"],
  ...["sh", "-ec", MOUNT_SYSFS, "sh"],
];
