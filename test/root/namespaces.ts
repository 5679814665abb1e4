/** sysfs tells of the network namespace that it was mounted in. The host's cgroups stay in their place. Named namespaces are a
 * run's own, so that one that ended midway leaves none for the next. */
const MOUNT_SYSFS = `mount --rbind /sys/fs/cgroup /mnt
  mount -t sysfs sysfs /sys
  mount --move /mnt /sys/fs/cgroup
  mkdir -p /run/netns
  mount -t tmpfs tmpfs /run/netns
  exec "$@"`;
/** What the tests of this folder run in, as words before a command: mount and network namespaces, and the sysfs of the latter. */
export const NAMESPACES: readonly string[] = [
  ...["unshare", "--mount", "--net", "--propagation", "private", "--"],
  ...["sh", "-ec", MOUNT_SYSFS, "sh"],
];
