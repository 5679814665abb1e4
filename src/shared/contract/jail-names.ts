/**
 * Names inside a jail as the jailed Firecracker sees them, for the bodies of its API. Apart from the helper's contract, whose schemas
 * cost each exec over vsock a millisecond to load.
 */
export const JAIL = {
  kernel: "/kernel",
  initrd: "/initrd",
  rootDrive: "/root-drive",
  workDrive: "/work-drive",
  /** Read-only to the VMM. */
  identityDrive: "/identity-drive",
  /** The only directory that both the VMM and the owner may write: sockets, logs, metrics, memory snapshots. */
  io: "/io",
  apiSocket: "/io/api.sock",
  /**
   * For connections from the guest, the owner listens on `<this>_<port>`, with mode 0770 so that the VM's uid may
   * connect.
   */
  vsockSocket: "/io/vsock.sock",
  serialLog: "/io/serial.log",
  vmmLog: "/io/firecracker.log",
  metrics: "/io/metrics",
} as const;
