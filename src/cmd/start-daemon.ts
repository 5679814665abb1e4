/** Starting the daemon of rootless mode: the first command that needs it does. */

import { closeSync, constants, ftruncateSync, fstatSync, openSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { BangerError, type ErrorDocument } from "../shared/errors.ts";
import type { Paths } from "../shared/paths.ts";
import { isListening } from "../shared/listening.ts";
import { ensurePrivateDirectory } from "../shared/private-directory.ts";
import { selfArgv } from "../shared/self.ts";

/** A daemon with many VMs to look after, on a busy machine, may take this long until it listens. */
const START_TIMEOUT_MS = 120_000;
const POLL_MS = 10;
const ATTEMPTS = 5;
const LATE_EXIT_MS = 10_000;
const STDERR_LIMIT_BYTES = 1024 * 1024;

/**
 * Starts a daemon in a session of its own and waits until one listens; of several started at once, one stays.
 * @throws BangerError what the daemon died of, DAEMON_UNREACHABLE
 */
export async function startDaemon(
  paths: Paths,
  env: Readonly<Record<string, string | undefined>>,
  signal: AbortSignal,
  attempt = 1,
): Promise<void> {
  await ensurePrivateDirectory(paths.stateDir);
  const errors = openErrors(join(paths.stateDir, "daemon.stderr"));
  const child = Bun.spawn([...selfArgv(), "daemon", "run"], {
    cwd: "/",
    env: { ...env },
    stdin: "ignore",
    stdout: "ignore",
    stderr: errors.fd,
    detached: true,
  });
  child.unref();
  closeSync(errors.fd);
  const deadline = Date.now() + START_TIMEOUT_MS;
  for (;;) {
    signal.throwIfAborted();
    const exitCode = child.exitCode ?? (child.signalCode === null ? null : 1);
    if (exitCode !== null && exitCode !== 0) throw errors.read();
    if (await isListening(paths.apiSocket)) break;
    if (exitCode === 0) {
      // It gave way to another one, which ended meanwhile.
      if (attempt >= ATTEMPTS)
        throw new BangerError("DAEMON_UNREACHABLE", `${ATTEMPTS} daemons in a row ended before they answered`);
      return await startDaemon(paths, env, signal, attempt + 1);
    }
    if (Date.now() > deadline)
      throw new BangerError("DAEMON_UNREACHABLE", `the daemon did not listen within ${START_TIMEOUT_MS / 1000} s`);
    await Bun.sleep(POLL_MS);
  }
  // Whether ours serves or gave way shows only now; one that gave way should be gone before we go on.
  await giveWay(paths, child);
}

async function giveWay(paths: Paths, child: Bun.Subprocess): Promise<void> {
  const response = await fetch("http://banger/v1/system.ping", {
    method: "POST",
    unix: paths.apiSocket,
    body: "{}",
    signal: AbortSignal.timeout(LATE_EXIT_MS),
  }).catch(() => null);
  const answer = (await response?.json().catch(() => null)) as { result?: { pid?: number } } | null | undefined;
  if (answer?.result?.pid === undefined || answer.result.pid === child.pid) return;
  // A timer that still ran would keep this process from ending.
  const late = Promise.withResolvers<void>();
  const timer = setTimeout(late.resolve, LATE_EXIT_MS);
  await Promise.race([child.exited, late.promise]);
  clearTimeout(timer);
}

/** Where a daemon says why it can't start, after whatever earlier ones said. */
function openErrors(path: string): { readonly fd: number; read(): BangerError } {
  const fd = openSync(path, constants.O_WRONLY | constants.O_CREAT | constants.O_APPEND | constants.O_NOFOLLOW, 0o600);
  if (fstatSync(fd).size > STDERR_LIMIT_BYTES) ftruncateSync(fd, 0);
  const { size } = fstatSync(fd);
  return {
    fd,
    read: () => {
      const said = readFileSync(path).subarray(size).toString("utf8").trim();
      const last = said.split("\n").at(-1) ?? "";
      try {
        return BangerError.fromDocument(JSON.parse(last) as ErrorDocument);
      } catch {
        return new BangerError(
          "DAEMON_UNREACHABLE",
          `the daemon did not start: ${said === "" ? "it said nothing" : last}`,
          {
            details: { stderr: said.slice(-4000) },
          },
        );
      }
    },
  };
}
