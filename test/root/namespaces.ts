/** What the tests of this folder run in, as words before a command: mount and network namespaces, and the sysfs of the latter. */
export const NAMESPACES: readonly string[] = [
  ...["unshare", "--mount", "--net", "--propagation", "private", "--"],
  // sysfs tells of the network namespace that it was mounted in.
  ...["sh", "-c", 'mount -t sysfs sysfs /sys && exec "$@"', "sh"],
];
