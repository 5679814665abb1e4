/**
 * Runs the helper as a systemd service: socket activation, readiness, logging, shutdown. Sources: sd_listen_fds(3),
 * sd_notify(3).
 */

import { constants, readFileSync, writeSync } from "node:fs";
import { basename, dirname } from "node:path";
import { BangerError, exitStatusOf, toBangerError } from "../shared/errors.ts";
import { type InstallConfig, parseInstallConfig } from "../shared/install-config.ts";
import { type SystemPaths, systemPaths } from "../shared/places/paths.ts";
import { VERSION } from "../shared/version.ts";
import { ensureDirectories } from "./files/directories.ts";
import { createDispatch } from "./dispatch.ts";
import { enforce, rootsDirectory, rootsFile } from "./gates.ts";
import { createHelperServer, type WriteLine } from "./server.ts";
import { openRoot } from "./sys/descriptors.ts";
import { notifyManager } from "./sys/sockets.ts";

/** The first descriptor that systemd passes. */
const SOCKET_FD = 3;
const CGROUP_ROOT = "/sys/fs/cgroup";

/** Writes one JSON object per line to standard error, which systemd forwards to the journal. */
const writeLine: WriteLine = (fields) => {
  writeSync(2, `${JSON.stringify({ time: new Date().toISOString(), ...fields })}\n`);
};

/**
 * Reads install.toml through its descriptor.
 * @throws BangerError HELPER_REFUSED if others than root may write it, because whoever writes it chooses the owner
 */
function readInstallConfig(paths: Pick<SystemPaths, "installFile">): InstallConfig {
  using directory = openRoot(dirname(paths.installFile));
  enforce(rootsDirectory, { directory: { ...directory.stat(), label: dirname(paths.installFile) } });
  using file = directory.open(
    basename(paths.installFile),
    constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK,
  );
  enforce(rootsFile, { file: { ...file.stat(), label: paths.installFile } });
  return parseInstallConfig(readFileSync(file.fd, "utf8"));
}

/** Serves on the activated socket until SIGTERM or SIGINT. Returns the exit status. */
export async function serveHelper(argv: readonly string[]): Promise<number> {
  try {
    if (argv.length > 0) throw new BangerError("USAGE", "bangerd-root takes no arguments; systemd starts it");
    if (process.getuid?.() !== 0) throw new BangerError("NEEDS_ROOT", "bangerd-root must run as root");
    if (process.env["LISTEN_FDS"] !== "1" || process.env["LISTEN_PID"] !== String(process.pid)) {
      throw new BangerError("USAGE", "bangerd-root is started by bangerd-root.socket, which passes it one socket");
    }
    process.umask(0o077);
    const paths = systemPaths();
    const install = readInstallConfig(paths);
    ensureDirectories({ paths });
    const dispatch = createDispatch({ paths, install, cgroupRoot: CGROUP_ROOT });
    const helper = createHelperServer({ ownerUid: install.owner.uid, dispatch, log: writeLine });
    const stopped = Promise.withResolvers<void>();
    for (const signal of ["SIGTERM", "SIGINT"] as const) process.once(signal, () => stopped.resolve());
    await new Promise<void>((resolve, reject) => {
      helper.server.once("error", reject);
      helper.server.listen({ fd: SOCKET_FD }, resolve);
    });
    notify("READY=1");
    writeLine({ outcome: "ready", version: VERSION, pid: process.pid, owner_uid: install.owner.uid });
    await stopped.promise;
    notify("STOPPING=1");
    await helper.close();
    return 0;
  } catch (thrown) {
    const error = toBangerError(thrown);
    writeLine({
      outcome: error.code,
      reason: error.message,
      ...(error.hint === undefined ? {} : { hint: error.hint }),
    });
    return exitStatusOf(error.code);
  }
}

function notify(message: string): void {
  const address = process.env["NOTIFY_SOCKET"];
  if (address !== undefined) notifyManager(address, message);
}
