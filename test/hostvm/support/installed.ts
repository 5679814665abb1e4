/** Prepares a host with or without the installed system for scenarios. */

import type { Host } from "../host.ts";

/** The binary under test before anything is installed. */
export const GIVEN = "/payload/banger";
/** The release build, if {@link GIVEN} is a test build because this run's Firecracker is an old one. */
export const RELEASE = "/payload/banger-release";
/** The installed one. */
export const BANGER = "/usr/local/bin/banger";

/** Install's Firecracker option: the one of this run, or none. */
export async function firecrackerArguments(host: Host): Promise<readonly string[]> {
  const { status } = await host.run(["test", "-x", "/payload/firecracker/firecracker"]);
  return status === 0 ? ["--firecracker-dir", "/payload/firecracker"] : ["--no-firecracker"];
}

/** Installs for the user dev, or updates what is installed. Returns install's output on stderr. */
export async function install(host: Host): Promise<string> {
  const result = await host.run([GIVEN, "system", "install", "--owner", "dev", ...(await firecrackerArguments(host))], {
    timeoutMs: 240_000,
  });
  if (result.status !== 0)
    throw new Error(`install exited with status ${result.status}\n${result.stdout}${result.stderr}`);
  return result.stderr;
}

/** Installs unless this run's own binary is installed and listening: an install takes as long as many scenarios. */
export async function ensureInstalled(host: Host): Promise<void> {
  const [, firecracker = ""] = await firecrackerArguments(host);
  const { status } = await host.run(["bash", "--norc", "-ec", IS_INSTALLED, "bash", GIVEN, BANGER, firecracker]);
  if (status !== 0) await install(host);
}
const IS_INSTALLED = `
  cmp -s "$1" "$2"
  grep -q '^uid = 1000$' /etc/banger/install.toml
  systemctl is-active --quiet bangerd.socket bangerd-root.socket
  [ -z "$3" ] || cmp -s "$3/firecracker" /usr/local/lib/banger/firecracker/*/firecracker
`;

/** Removes everything of banger, whatever was installed. */
export async function purge(host: Host): Promise<void> {
  const { status } = await host.run(["test", "-e", "/etc/banger/install.toml", "-o", "-e", "/var/lib/banger"]);
  if (status === 0) await host.ok([GIVEN, "system", "uninstall", "--purge", "--force"], { timeoutMs: 240_000 });
}

/**
 * Makes the daemon reach its start limit after the usual number of failures, however slow an emulated host is. Lasts
 * until the returned function is called.
 */
export async function stretchStartLimit(host: Host): Promise<() => Promise<void>> {
  const directory = "/run/systemd/system/bangerd.service.d";
  await host.sh(
    'mkdir -p "$1"; printf "[Unit]\\nStartLimitIntervalSec=300\\n" > "$1/limit.conf"; systemctl daemon-reload',
    [directory],
  );
  return async () => {
    await host.sh('rm -r "$1"; systemctl daemon-reload', [directory]);
  };
}

/** Returns a daemon's main pid; 0 if it has none. */
export async function mainPid(host: Host, unit: string): Promise<number> {
  return Number(await host.ok(["systemctl", "show", "--value", "--property=MainPID", unit]));
}
