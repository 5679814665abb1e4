/**
 * `BANGER_HOST=ssh://[USER@]HOST[:PORT]`: the daemon of another machine, over OpenSSH as the user has it set up. One
 * shared connection per host carries the forwarded API socket and every command in a guest there.
 */

import { join } from "node:path";
import { isatty } from "node:tty";
import { BangerError } from "../../shared/errors.ts";
import type { Paths } from "../../shared/places/paths.ts";
import { ensurePrivateDirectory } from "../../shared/places/private-directory.ts";
import { isListening } from "../../shared/places/listening.ts";

/** A first connection may ask for a passphrase. */
const CONNECT_TIMEOUT_MS = 120_000;
const CONTROL_TIMEOUT_MS = 15_000;

export interface RemoteHost {
  readonly destination: string;
  readonly port: string | null;
}

export interface RemoteConnection {
  /** The API socket of the other machine, as a socket of this one. */
  readonly socket: string;
  /** ssh, its options and the destination; append one line for the other machine's shell. */
  readonly via: readonly string[];
}

/**
 * Neither part may begin with a hyphen, or ssh would take it for an option.
 * @throws BangerError INVALID_VALUE
 */
export function parseHost(text: string): RemoteHost {
  const match =
    /^ssh:\/\/((?:[A-Za-z0-9_][A-Za-z0-9_.-]*@)?(?:[A-Za-z0-9][A-Za-z0-9_.-]*|\[[0-9A-Fa-f:]+\]))(?::(\d{1,5}))?\/?$/.exec(
      text,
    );
  if (match === null)
    throw new BangerError(
      "INVALID_VALUE",
      `BANGER_HOST must be ssh://[USER@]HOST[:PORT], not ${JSON.stringify(text)}`,
      {
        hint: "unset BANGER_HOST",
      },
    );
  return { destination: (match[1] ?? "").replace(/[[\]]/g, ""), port: match[2] ?? null };
}

/** @throws BangerError DAEMON_UNREACHABLE with what ssh, or banger over there, said */
export async function connectRemote(host: RemoteHost, paths: Paths, start: boolean): Promise<RemoteConnection> {
  await ensurePrivateDirectory(paths.runtimeDir);
  const name = new Bun.CryptoHasher("sha256").update(JSON.stringify(host)).digest("hex").slice(0, 16);
  const via = [
    "ssh",
    ...["-o", "ControlMaster=auto", "-o", "ControlPersist=600"],
    ...["-o", `ControlPath=${join(paths.runtimeDir, `host-${name}`).replaceAll("%", "%%")}`],
    ...["-o", "StreamLocalBindUnlink=yes", "-o", "ConnectTimeout=15"],
    // Whoever could type a passphrase isn't there.
    ...(isatty(0) || isatty(2) ? [] : ["-o", "BatchMode=yes"]),
    ...(host.port === null ? [] : ["-p", host.port]),
    host.destination,
  ];
  const remote = await say([...via, `banger internal socket${start ? "" : " --no-start"}`], host, CONNECT_TIMEOUT_MS);
  const socket = join(paths.runtimeDir, `host-${name}.api`);
  if (!(await isListening(socket))) {
    const [ssh = "ssh", ...rest] = via;
    await say([ssh, "-O", "forward", "-L", `${socket}:${remote}`, ...rest], host, CONTROL_TIMEOUT_MS);
  }
  return { socket, via };
}

async function say(argv: readonly string[], { destination }: RemoteHost, timeoutMs: number): Promise<string> {
  const child = Bun.spawn([...argv], { stdin: "ignore", stdout: "pipe", stderr: "pipe" });
  const timer = setTimeout(() => child.kill("SIGKILL"), timeoutMs);
  try {
    const [stdout, stderr] = await Promise.all([new Response(child.stdout).text(), new Response(child.stderr).text()]);
    if ((await child.exited) === 0) return stdout.trim();
    throw new BangerError(
      "DAEMON_UNREACHABLE",
      `${destination}: ${stderr.trim() || "ssh failed without an error message"}`,
      {
        hint: `ssh ${destination} banger daemon status`,
      },
    );
  } finally {
    clearTimeout(timer);
  }
}
