/**
 * The text of every systemd file of the installed system. Pure. Source: systemd.exec(5), systemd.service(5),
 * systemd.socket(5), systemd.resource-control(5), tmpfiles.d(5); the why of each limit is in docs/privileges.md.
 */

import { CONFIG_KEYS } from "../../shared/config.ts";
import { DM_PREFIX, VMS_SLICE } from "../../shared/host-names.ts";
import { KERNEL_MODULES } from "../../shared/host-needs.ts";
import type { InstallConfig } from "../../shared/install-config.ts";
import type { SystemPaths } from "../../shared/places/paths.ts";

export const DAEMON_EXECUTABLE = "/usr/local/bin/bangerd";
export const HELPER_EXECUTABLE = "/usr/local/bin/bangerd-root";
const UNIT_DIR = "/etc/systemd/system";
export const TMPFILES_PATH = "/etc/tmpfiles.d/banger.conf";
export const UDEV_RULES_PATH = "/etc/udev/rules.d/09-banger.rules";

/** Named after its path, as systemd demands: systemd-escape(1). */
const JAIL_MOUNT = "var-lib-banger-jail.mount";
/** In the order in which they are started. */
export const UNITS = [
  JAIL_MOUNT,
  "bangerd-root.socket",
  "bangerd.socket",
  "bangerd-root.service",
  "bangerd.service",
] as const;
export const SERVICES = ["bangerd-root.service", "bangerd.service"] as const;

export interface SystemFile {
  readonly path: string;
  readonly text: string;
}

/**
 * Each of these makes a Bun executable, the dynamic loader or TLS do what the environment says. That they are unset is what
 * protects: by the time a program looks at its environment, what it was told to preload has run.
 */
const STEERING_VARIABLES = [
  ...["BUN_BE_BUN", "BUN_OPTIONS", "BUN_INSPECT", "BUN_INSPECT_CONNECT_TO", "BUN_INSPECT_NOTIFY"],
  ...["BUN_INSPECT_PRELOAD", "BUN_CONFIG_REGISTRY", "BUN_CONFIG_VERBOSE_FETCH", "BUN_DEBUG", "BUN_INSTALL"],
  ...["BUN_JSC_useJIT", "BUN_RUNTIME_TRANSPILER_CACHE_PATH", "NODE_OPTIONS", "NODE_PATH", "NODE_ENV"],
  ...["NODE_TLS_REJECT_UNAUTHORIZED", "NODE_EXTRA_CA_CERTS", "NODE_USE_SYSTEM_CA", "SSL_CERT_FILE", "SSL_CERT_DIR"],
  ...["LD_PRELOAD", "LD_LIBRARY_PATH", "LD_AUDIT", "LD_DEBUG", "GLIBC_TUNABLES", "TMPDIR"],
  ...["GCONV_PATH", "LOCPATH", "NLSPATH", "OPENSSL_CONF", "OPENSSL_ENGINES", "OPENSSL_MODULES"],
];

/** What both services have in common. `KillMode=process`: whatever else is in the unit's cgroup is not theirs to end. */
const COMMON = `Type=notify
NotifyAccess=main
Restart=on-failure
RestartSec=500ms
TimeoutStartSec=90s
TimeoutStopSec=90s
KillMode=process
SendSIGKILL=no
UMask=0077
WorkingDirectory=/
UnsetEnvironment=${STEERING_VARIABLES.join(" ")}

# A tool that takes too much ends, and its caller hears of it; the service itself goes on.
OOMPolicy=continue
LimitCORE=0

NoNewPrivileges=yes
ProtectSystem=strict
PrivateTmp=yes
ProtectClock=yes
ProtectKernelLogs=yes
ProtectHostname=yes
LockPersonality=yes
RestrictRealtime=yes
SystemCallArchitectures=native
SystemCallErrorNumber=EPERM
DevicePolicy=closed
`;

const HELPER_CAPABILITIES = [
  ...["CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FOWNER", "CAP_KILL", "CAP_MKNOD", "CAP_NET_ADMIN"],
  ...["CAP_SETGID", "CAP_SETUID", "CAP_SYS_ADMIN"],
];

/** Of the kernel's devices, what the helper's verbs use: no disk of the host is among them. */
const HELPER_DEVICES = [
  ...["block-device-mapper rwm", "block-loop rwm", "/dev/loop-control rw", "/dev/mapper/control rw"],
  ...["/dev/net/tun rwm", "/dev/kvm rwm"],
];

const MODULE_UNITS = KERNEL_MODULES.map(({ name }) => `modprobe@${name}.service`).join(" ");

/** Not `RestrictSUIDSGID`: its filter can't look into openat2's arguments and takes that call away, on which all paths rest. */
function helperService(paths: SystemPaths): string {
  return `[Unit]
Description=banger: root helper
Documentation=man:systemd.exec(5)
Requires=bangerd-root.socket
After=bangerd-root.socket
# Devices are allowed by the names of drivers, which must be there when the unit starts.
Wants=${MODULE_UNITS}
After=${MODULE_UNITS}

[Service]
ExecStart=${HELPER_EXECUTABLE}
${COMMON}
CapabilityBoundingSet=${HELPER_CAPABILITIES.join(" ")}
# With 64 verbs of the owner's at a time it stays below a fifth of either; the VMs are in scopes of their own.
MemoryMax=1G
TasksMax=1024
ProtectHome=yes
ReadWritePaths=${paths.baseDir} ${paths.helperSocketDir}
ReadWritePaths=-/run/xtables.lock
ProtectKernelModules=yes
# What the jailer gives a VM.
RestrictNamespaces=mnt pid
# Its sockets are for iptables and routes; it talks to nobody.
IPAddressDeny=any
RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK AF_VSOCK
# seccomp: Firecracker limits itself with it.
SystemCallFilter=@system-service @mount seccomp
${HELPER_DEVICES.map((device) => `DeviceAllow=${device}`).join("\n")}

[Install]
WantedBy=multi-user.target
`;
}

function daemonService({ owner }: InstallConfig, paths: SystemPaths, bridge: string): string {
  return `[Unit]
Description=banger: owner daemon
Documentation=man:systemd.exec(5)
Requires=bangerd.socket
After=bangerd.socket bangerd-root.socket network.target
Wants=bangerd-root.socket

[Service]
ExecStart=${DAEMON_EXECUTABLE}
# As root, however the daemon ended: names below .vm are asked for at its port, which others may take now.
ExecStopPost=+-/usr/bin/resolvectl revert ${bridge}
# The sockets of its DNS server: the port stays taken from one daemon to the next.
FileDescriptorStoreMax=2
User=${owner.uid}
Group=${owner.gid}
${COMMON}
# Images are built by the owner's own commands, outside; what runs in here is the daemon, one ssh per VM and tools for disks.
MemoryMax=4G
TasksMax=4096
ProtectHome=read-only
PrivateMounts=yes
CapabilityBoundingSet=
AmbientCapabilities=
RestrictSUIDSGID=yes
ReadWritePaths=${paths.stateDir} ${paths.cacheDir} ${paths.runtimeDir}
# The logs in the jails are cut by the daemon; modes and access lists say what else it may do there.
ReadWritePaths=${paths.jailDir}
RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6
RestrictNamespaces=yes
SystemCallFilter=@system-service
DeviceAllow=/dev/kvm rw
ProtectKernelTunables=yes
ProtectKernelModules=yes
ProtectControlGroups=yes

[Install]
WantedBy=multi-user.target
`;
}

/** systemd makes the socket with its final mode and then changes its owner by name: root's directory keeps the name what it is. */
function socket(description: string, path: string, { owner }: InstallConfig): string {
  return `[Unit]
Description=${description}

[Socket]
ListenStream=${path}
SocketMode=0600
SocketUser=${owner.uid}
SocketGroup=${owner.gid}
RemoveOnStop=yes

[Install]
WantedBy=sockets.target
`;
}

/**
 * The jails' directory, mounted on itself. A set-uid file that a VMM leaves behind changes nobody's uid, a node opens no device,
 * nothing is run, and no file can be hard-linked in or out.
 */
function jailMount({ jailDir }: SystemPaths): string {
  return `[Unit]
Description=banger: jails of virtual machines
Before=bangerd-root.service

[Mount]
What=${jailDir}
Where=${jailDir}
Type=none
Options=bind,nosuid,nodev,noexec
DirectoryMode=0711

[Install]
WantedBy=multi-user.target
RequiredBy=bangerd-root.service
`;
}

const SLICE = `[Unit]
Description=banger: virtual machines
`;

/** Sockets' directories, at every boot: root's, which the owner may enter and not change. Parents first. */
function tmpfiles({ owner }: InstallConfig, paths: SystemPaths): string {
  return [
    "# Written by banger system install.",
    `d ${paths.apiSocketDir} 0711 0 0 -`,
    `d ${paths.runtimeDir} 0700 ${owner.uid} ${owner.gid} -`,
    `d ${paths.helperSocketDir} 0711 0 0 -`,
    "",
  ].join("\n");
}

/**
 * A guest writes its disk's label and UUID itself, the owner those of an image: as names under /dev/disk they would stand for
 * the host's own disks, and a mount by UUID would find the guest's. So udev reads neither, which saves it the work as well. Before
 * the rules of device mapper, which some have at 10. Source: udev(7).
 */
const UDEV_RULES = `SUBSYSTEM!="block", GOTO="banger_end"
ACTION=="remove", GOTO="banger_end"
KERNEL=="dm-[0-9]*", ATTR{dm/name}=="${DM_PREFIX}*", ENV{DM_UDEV_DISABLE_SUBSYSTEM_RULES_FLAG}="1", \\
  ENV{DM_UDEV_DISABLE_DISK_RULES_FLAG}="1", ENV{DM_UDEV_DISABLE_OTHER_RULES_FLAG}="1", OPTIONS:="nowatch"
KERNEL=="loop[0-9]*", ATTR{loop/backing_file}=="*/images/*/rootfs.ext4|*/cow/*.cow", \\
  ENV{UDEV_DISABLE_PERSISTENT_STORAGE_RULES_FLAG}="1", ENV{SYSTEMD_READY}="0", OPTIONS:="nowatch"
LABEL="banger_end"
`;

/** Every file that systemd and udev read, by path. `bridge` is the guests' (`bridge_name` of the settings). */
export function renderSystemFiles(
  config: InstallConfig,
  paths: SystemPaths,
  bridge = CONFIG_KEYS.bridge_name.value,
): readonly SystemFile[] {
  const unit = (name: string, text: string): SystemFile => ({ path: `${UNIT_DIR}/${name}`, text });
  return [
    { path: TMPFILES_PATH, text: tmpfiles(config, paths) },
    { path: UDEV_RULES_PATH, text: UDEV_RULES },
    unit(VMS_SLICE, SLICE),
    unit(JAIL_MOUNT, jailMount(paths)),
    unit("bangerd-root.socket", socket("banger: socket of the root helper", paths.helperSocket, config)),
    unit("bangerd.socket", socket("banger: socket of the owner daemon", paths.apiSocket, config)),
    unit("bangerd-root.service", helperService(paths)),
    unit("bangerd.service", daemonService(config, paths, bridge)),
  ];
}
