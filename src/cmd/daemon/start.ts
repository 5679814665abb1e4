/** Starting the daemon of rootless mode: the first command that needs it does. */

import { closeSync, constants, ftruncateSync, fstatSync, openSync, readFileSync, readSync } from "node:fs";
import { join } from "node:path";
import { BangerError, type ErrorDocument, fileErrorCode, isErrno } from "../../shared/errors.ts";
import { type Paths, relocate } from "../../shared/places/paths.ts";
import { isListening } from "../../shared/places/listening.ts";
import { ensurePrivateDirectory } from "../../shared/places/private-directory.ts";
import { REPORT_DESCRIPTOR, REPORT_TO_STARTER } from "../../shared/places/start-report.ts";
import { selfArgv } from "../../shared/places/self.ts";
import { pingDaemon } from "./ping.ts";

/** A daemon with many VMs to look after, on a busy machine, may take this long until it listens. */
const START_TIMEOUT_MS = 120_000;
const POLL_MS = 10;
const ATTEMPTS = 5;
const LATE_EXIT_MS = 10_000;
const REPORT_LIMIT_BYTES = 64 * 1024;
const STDERR_LIMIT_BYTES = 1024 * 1024;

/**
 * Starts a daemon in a session of its own and waits until one listens; of several started at once, one stays. Returns the
 * paths of the one that listens: its sockets are where it found them to be, whatever this environment says.
 * @throws BangerError what the daemon died of, DAEMON_UNREACHABLE
 */
export async function startDaemon(
  before: Paths,
  env: Readonly<Record<string, string | undefined>>,
  signal: AbortSignal,
  attempt = 1,
): Promise<Paths> {
  await ensurePrivateDirectory(before.stateDir);
  const stderr = openStandardError(join(before.stateDir, "daemon.stderr"));
  const child = Bun.spawn([...selfArgv(), "daemon", "run", REPORT_TO_STARTER], {
    cwd: "/",
    env: { ...env },
    stdio: ["ignore", "ignore", stderr?.fd ?? "ignore", "pipe"],
    detached: true,
  });
  child.unref();
  if (stderr !== null) closeSync(stderr.fd);
  const report = child.stdio[REPORT_DESCRIPTOR] as number;
  try {
    const deadline = Date.now() + START_TIMEOUT_MS;
    for (;;) {
      signal.throwIfAborted();
      const exitCode = child.exitCode ?? (child.signalCode === null ? null : 1);
      if (exitCode !== null && exitCode !== 0) throw readFailure(report, stderr, child);
      const paths = relocate(before);
      if (await isListening(paths.apiSocket)) {
        // Whether ours serves or gave way shows only now; one that gave way should be gone before we go on.
        await giveWay(paths, child);
        return paths;
      }
      if (exitCode === 0) {
        // It gave way to another one, which ended meanwhile.
        if (attempt >= ATTEMPTS)
          throw new BangerError(
            "DAEMON_UNREACHABLE",
            `the daemon stopped before it answered, ${ATTEMPTS} times in a row`,
          );
        return await startDaemon(before, env, signal, attempt + 1);
      }
      if (Date.now() > deadline)
        throw new BangerError("DAEMON_UNREACHABLE", `the daemon did not listen within ${START_TIMEOUT_MS / 1000} s`);
      await Bun.sleep(POLL_MS);
    }
  } finally {
    closeSync(report);
  }
}

async function giveWay(paths: Paths, child: Bun.Subprocess): Promise<void> {
  const answer = await pingDaemon(paths.apiSocket, LATE_EXIT_MS).catch(() => null);
  if (answer === null || answer.pid === child.pid) return;
  // A timer that still ran would keep this process from ending.
  const late = Promise.withResolvers<void>();
  const timer = setTimeout(late.resolve, LATE_EXIT_MS);
  await Promise.race([child.exited, late.promise]);
  clearTimeout(timer);
}

interface StandardError {
  readonly fd: number;
  /** What the daemon wrote there. */
  read(): string;
}

/** The file that keeps what a daemon says when it crashes; null where none can be written: the daemon says that itself. */
function openStandardError(path: string): StandardError | null {
  try {
    const fd = openSync(
      path,
      constants.O_WRONLY | constants.O_CREAT | constants.O_APPEND | constants.O_NOFOLLOW,
      0o600,
    );
    if (fstatSync(fd).size > STDERR_LIMIT_BYTES) ftruncateSync(fd, 0);
    const { size } = fstatSync(fd);
    return { fd, read: () => readFileSync(path).subarray(size).toString("utf8").trim() };
  } catch (thrown) {
    if (fileErrorCode(thrown) === null && !isErrno(thrown, "ELOOP")) throw thrown;
    return null;
  }
}

/** Why a daemon that has ended did not start: its own report, else its last words, else how it ended. */
function readFailure(report: number, stderr: StandardError | null, child: Bun.Subprocess): BangerError {
  const buffer = Buffer.alloc(REPORT_LIMIT_BYTES);
  try {
    const line = buffer.toString("utf8", 0, readSync(report, buffer));
    return BangerError.fromDocument(JSON.parse(line) as ErrorDocument);
  } catch {
    // It ended before it could report: a crash, or a signal.
  }
  const said = stderr?.read() ?? "";
  const how = child.signalCode === null ? `status ${child.exitCode}` : child.signalCode;
  const last = said.split("\n").at(-1) ?? "";
  return new BangerError("DAEMON_UNREACHABLE", `the daemon ended with ${how}${last === "" ? "" : `: ${last}`}`, {
    details: { stderr: said.slice(-4000) },
  });
}
