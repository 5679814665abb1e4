/** Prepares running VMs of the installed system for scenarios. */

import { HELPER_VERSION } from "../../../src/shared/contract/helper-api.ts";
import { BANGER, ensureInstalled } from "./installed.ts";
import type { CommandResult, Host } from "../host.ts";

/** Under two levels of emulation, on a busy machine, a guest takes minutes to boot. */
export const BOOT_TIMEOUT_MS = 20 * 60_000;
const COMMAND_TIMEOUT_MS = 5 * 60_000;

/** Flags for a small VM that boots quickly. */
export const SMALL_VM: readonly string[] = [
  "--memory",
  "320M",
  "--vcpu",
  "1",
  "--disk-size",
  "256M",
  "--system-overlay-size",
  "2G",
];

export interface GuestVm {
  readonly id: string;
  readonly name: string;
  readonly state: string;
  readonly pid: number | null;
  readonly bootId: string | null;
  readonly guestIp: string;
  readonly image: string;
  readonly spec: { readonly vcpu: number; readonly memoryMiB: number; readonly systemOverlayBytes: number };
}

export interface HelperInventory {
  readonly taps: readonly { readonly tap: string }[];
  readonly dm: readonly string[];
  readonly loops: readonly unknown[];
  readonly mounts: readonly string[];
  readonly jails: readonly string[];
  readonly cow_files: readonly { readonly vm: string }[];
  readonly nat_rules: readonly { readonly tap: string; readonly guest_ip: string }[];
  readonly walls: readonly string[];
  readonly scopes: readonly { readonly vm: string }[];
  readonly slots: readonly { readonly vm: string }[];
}

/** Runs banger as its owner and returns the status. */
export async function banger(host: Host, ...args: readonly string[]): Promise<CommandResult> {
  return await host.run([BANGER, ...args], { user: "dev", timeoutMs: BOOT_TIMEOUT_MS });
}

/** Runs banger as its owner. Fails on a status other than 0. Returns stdout. */
export async function bangerOk(host: Host, ...args: readonly string[]): Promise<string> {
  return await host.ok([BANGER, ...args], { user: "dev", timeoutMs: BOOT_TIMEOUT_MS });
}

/** Runs a command in a guest. Fails on a status other than 0. Returns stdout. */
export async function inGuest(host: Host, vm: string, script: string): Promise<string> {
  return await host.ok([BANGER, "vm", "exec", vm, "--", "sh", "-c", script], {
    user: "dev",
    timeoutMs: COMMAND_TIMEOUT_MS,
  });
}

/** Opens the shared ssh connection to a guest, which nothing but ssh and forwards needs: a forward keeps it. */
export async function openSsh(host: Host, vm: string): Promise<void> {
  await bangerOk(host, "vm", "forward", "-d", vm, "18022:22");
}

export async function showVm(host: Host, name: string): Promise<GuestVm> {
  return JSON.parse(await bangerOk(host, "vm", "show", name, "--json")) as GuestVm;
}

export async function listVms(host: Host): Promise<readonly GuestVm[]> {
  return JSON.parse(await bangerOk(host, "vm", "list", "-a", "--json")) as GuestVm[];
}

/** Calls the root helper over its socket, as the owner or as root. Returns the result; an error throws. */
export async function askHelper(
  host: Host,
  method: string,
  params: unknown,
  user: "dev" | "root" = "dev",
): Promise<unknown> {
  const socket = "/run/banger-root/bangerd-root.sock";
  const answer = await host.ok(["python3", "-c", ASK, socket, method, JSON.stringify(params)], { user });
  const said = JSON.parse(answer) as { readonly result?: unknown; readonly error?: unknown };
  if (said.error !== undefined) throw new Error(`${method}: ${JSON.stringify(said.error)}`);
  return said.result;
}

/** Returns the helper's inventory of the host. */
export async function inventory(host: Host): Promise<HelperInventory> {
  return (await askHelper(host, "priv.inventory", {})) as HelperInventory;
}

const ASK = `
import json, socket, struct, sys
path, method, params = sys.argv[1:]
body = json.dumps({"v": ${HELPER_VERSION}, "method": method, "params": json.loads(params), "op": None}).encode()
s = socket.socket(socket.AF_UNIX)
s.connect(path)
s.sendall(struct.pack(">I", len(body)) + body)
data = b""
while chunk := s.recv(65536):
    data += chunk
print(data[4:].decode())
`;

/**
 * Whether the installed Firecracker writes guests' serial consoles to a file, as it does since 1.14. Notes it if not.
 */
export async function hasSerialLog(host: Host): Promise<boolean> {
  // Whatever its exit status: a scenario may have stopped the daemon.
  const status = JSON.parse((await banger(host, "system", "status", "--json")).stdout) as {
    readonly firecracker: { readonly version: string } | null;
  };
  const [major = 0, minor = 0] = (status.firecracker?.version ?? "").split(".").map(Number);
  const has = major > 1 || minor >= 14;
  if (!has) host.note(`Firecracker ${status.firecracker?.version} has no serial log, so checks of it are skipped`);
  return has;
}

/** Installs banger with the default image, which was built before, on this disk. */
export async function ensureInstalledWithImage(host: Host): Promise<void> {
  await ensureInstalled(host);
  await host.sh(`
    cd /var/lib/banger/owner
    for part in images kernels; do
      [ -d $part ] || install -d -o dev -g dev -m 700 $part
      for entry in /payload/$part/*; do
        to="$part/\${entry##*/}"
        [ -e "$to" ] || { cp -a --sparse=always "$entry" "$to" && chown -R dev:dev "$to" && chmod -R go= "$to"; }
      done
    done
  `);
}

/** Returns a small, running VM of that name; creates or starts it if needed. */
export async function ensureVm(host: Host, name: string, ...flags: readonly string[]): Promise<GuestVm> {
  await ensureInstalledWithImage(host);
  const found = (await listVms(host)).find((vm) => vm.name === name);
  if (found === undefined) {
    await bangerOk(host, "vm", "create", "--name", name, ...SMALL_VM, ...flags);
  } else if (found.state !== "running") await bangerOk(host, "vm", "start", name);
  return await showVm(host, name);
}
