/** The owner daemon: puts the parts together, listens, and ends cleanly. Never root's in system mode. */

import { closeSync, existsSync, lstatSync, readFileSync, renameSync, unlinkSync, writeSync } from "node:fs";
import { homedir } from "node:os";
import { basename, join } from "node:path";
import { loadConfig } from "../shared/config.ts";
import { BangerError, toBangerError } from "../shared/errors.ts";
import { parseInstallConfig } from "../shared/install-config.ts";
import { type Paths, relocate, rootlessPaths, type SystemPaths, systemPaths } from "../shared/places/paths.ts";
import { ensurePrivateDirectory } from "../shared/places/private-directory.ts";
import { findRuntimeDir, recordRuntimeDir } from "../shared/places/runtime-directory.ts";
import { isListening } from "../shared/places/listening.ts";
import { REPORT_DESCRIPTOR, REPORT_TO_STARTER } from "../shared/places/start-report.ts";
import { VERSION } from "../shared/version.ts";
import { createImageHandlers } from "./api/image.ts";
import { createKernelHandlers } from "./api/kernel.ts";
import { createOperationHandlers } from "./api/operation.ts";
import { createSystemHandlers } from "./api/system.ts";
import { createVmHandlers } from "./api/vm.ts";
import type { Handlers } from "./api/handlers.ts";
import { createGuest } from "./guest/guest.ts";
import { createImageStore } from "./image/store.ts";
import { type InstanceLock, tryLockInstance } from "./host/instance-lock.ts";
import { createKernelStore } from "./kernel/store.ts";
import { Locks } from "../shared/locks.ts";
import type { SocketKeeper } from "./engine/system/network/dns-server.ts";
import { type Log, openLog } from "./log.ts";
import { Operations } from "./api/operations.ts";
import { createPrivileged } from "./engine/system/privileged.ts";
import { serveApi } from "./api/server.ts";
import { inheritedSockets, keepDnsSocket, notifyServiceManager } from "./host/service-manager.ts";
import { checkMigrations, isDamagedDatabase, openDatabase } from "./store/database.ts";
import { explainStartFailure } from "./start-failure.ts";
import { ForwardTable } from "./store/forwards.ts";
import { JournalTable } from "./store/journal.ts";
import { VmTable } from "./store/vms.ts";
import { type JournalHook, Runner } from "./engine/runner.ts";
import { createRootlessEngine } from "./engine/rootless/engine.ts";
import { createSystemEngine } from "./engine/system/engine.ts";
import { createVmService } from "./vm/service.ts";

/** How long a daemon waits for its predecessor to end. */
const LOCK_TIMEOUT_MS = 90_000;
const LOCK_POLL_MS = 50;
/** Cancelled operations get this long to undo what they did. */
const DRAIN_TIMEOUT_MS = 60_000;
/** A logout takes /run/user/UID away with all in it; a daemon that nobody can reach must not keep the lock. */
const SOCKET_WATCH_MS = 2000;

export interface Daemon {
  /** Ends the daemon; VMs keep running. Resolves when everything is closed. */
  stop(): Promise<void>;
  readonly stopped: Promise<void>;
}

/** The daemon role. Returns the process's exit status. */
export async function runDaemon(argv: readonly string[]): Promise<number> {
  const starter = argv[0] === REPORT_TO_STARTER ? REPORT_DESCRIPTOR : null;
  let paths: Paths | SystemPaths | null = null;
  try {
    paths = choosePaths(process.argv0);
    if (argv[0] === "--check-migrations") return checkMigrations(paths.database);
    const { api, dns } = inheritedSockets(process.env, process.pid);
    const daemon = await startDaemon(paths, {
      listenFd: api,
      dnsSocket: { kept: dns, keep: (socket) => keepDnsSocket(process.env, socket) },
    });
    if (starter !== null) closeSync(starter);
    if (daemon === null) return 0;
    notifyServiceManager(process.env, "READY=1");
    for (const signal of ["SIGTERM", "SIGINT"] as const) {
      process.on(signal, () => {
        notifyServiceManager(process.env, "STOPPING=1");
        void daemon.stop();
      });
    }
    await daemon.stopped;
    return 0;
  } catch (thrown) {
    const said = `${JSON.stringify(explainStartFailure(thrown, paths).toDocument())}\n`;
    // Not on standard error: that is a file, and the disk may be full.
    if (starter === null) process.stderr.write(said);
    else writeSync(starter, said);
    return 1;
  }
}

/**
 * Where a daemon runs decides what it is: started by the name `bangerd` on an installed host it is that host's, else it
 * is its user's own. @throws BangerError NOT_OWNER, CONFIG_INVALID
 */
function choosePaths(programName: string): Paths | SystemPaths {
  const uid = process.getuid?.() ?? -1;
  const system = systemPaths();
  if (basename(programName) !== "bangerd" || !existsSync(system.installFile))
    return rootlessPaths(process.env, homedir(), uid);
  const { owner } = parseInstallConfig(readFileSync(system.installFile, "utf8"));
  if (owner.uid !== uid) {
    throw new BangerError(
      "NOT_OWNER",
      `this host's daemon runs as ${owner.name} (uid ${owner.uid}), not as uid ${uid}`,
    );
  }
  return system;
}

export interface DaemonOptions {
  /** For tests, which end the process at a journal entry. */
  readonly hook?: JournalHook;
  /** A listening socket that a service manager handed over; else the daemon makes its own. */
  readonly listenFd?: number | null;
  readonly dnsSocket?: SocketKeeper;
}

/**
 * Starts a daemon; null when another one serves this state directory already.
 * @throws BangerError UNSAFE_DIRECTORY, CONFIG_INVALID, STORE_TOO_NEW, DAEMON_UNREACHABLE
 */
export async function startDaemon(before: Paths | SystemPaths, options: DaemonOptions = {}): Promise<Daemon | null> {
  process.umask(0o077);
  process.chdir("/");
  await ensurePrivateDirectory(before.stateDir);
  const lock = await lockInstance(before, (options.listenFd ?? null) !== null);
  if (lock === null) return null;
  try {
    const paths = relocate(before);
    await ensurePrivateDirectory(paths.runtimeDir);
    if (paths.mode === "rootless") await recordRuntimeDir(paths.stateDir, paths.runtimeDir);
    return await startLocked(paths, lock, options);
  } catch (thrown) {
    lock.release();
    throw thrown;
  }
}

async function startLocked(
  paths: Paths | SystemPaths,
  lock: InstanceLock,
  { hook, listenFd = null, dnsSocket }: DaemonOptions,
): Promise<Daemon> {
  const startedAt = new Date();
  const { values: config } = loadConfig(paths.configFiles, (path) =>
    existsSync(path) ? readFileSync(path, "utf8") : null,
  );
  const log = openLog(paths.daemonLog, config.log_level);
  const db = openOrReplaceDatabase(paths.database, log);
  const [vms, journal, forwards] = [new VmTable(db), new JournalTable(db), new ForwardTable(db)];
  const operations = new Operations(log);
  const kernels = createKernelStore(paths);
  const images = createImageStore(paths, kernels, { canBuild: paths.mode === "rootless" });
  const engine =
    "helperSocket" in paths
      ? createSystemEngine({ paths, config, log, vms, privileged: createPrivileged(paths.helperSocket), dnsSocket })
      : createRootlessEngine(paths);
  const service = createVmService({
    paths,
    config,
    log,
    vms,
    journal,
    forwards,
    images,
    engine,
    guest: createGuest(paths),
    runner: new Runner(journal, log, hook),
    locks: new Locks(),
  });
  process.on("unhandledRejection", (thrown) => {
    const error = thrown instanceof Error ? thrown : new Error(String(thrown));
    log.error("unhandled rejection", { error: error.message, stack: error.stack });
  });

  const ended = Promise.withResolvers<void>();
  let stopping: Promise<void> | null = null;
  const stop = async (): Promise<void> => {
    stopping ??= end();
    await stopping;
  };
  const handlers: Handlers = {
    ...createSystemHandlers(service, startedAt, () => void stop()),
    ...createOperationHandlers(operations),
    ...createVmHandlers(service),
    ...createImageHandlers(images, vms),
    ...createKernelHandlers(kernels, images, vms),
  };
  await engine
    .prepare?.()
    .catch((thrown: unknown) => log.error("the engine is not ready", { error: toBangerError(thrown).message }));
  await service.reconciler.reconcile();
  const api = await serveApi(
    listenFd === null ? { path: paths.apiSocket } : { fd: listenFd },
    handlers,
    operations,
    log,
  );
  log.info("daemon started", { version: VERSION, pid: process.pid, mode: paths.mode });

  let patrolling = Promise.resolve();
  const patrol = setInterval(() => {
    patrolling = patrolling.then(async () => {
      await service.patrol
        .run()
        .catch((thrown: unknown) => log.error("patrol failed", { error: toBangerError(thrown).message }));
    });
  }, config.stats_poll_interval);

  // A socket that was handed over belongs to whoever made it.
  const socketInode = listenFd === null ? lstatSync(paths.apiSocket).ino : null;
  const hasSocket = (): boolean =>
    socketInode !== null && lstatSync(paths.apiSocket, { throwIfNoEntry: false })?.ino === socketInode;
  const watch = setInterval(() => {
    if (socketInode === null) return;
    if (hasSocket()) {
      // What cleans /tmp takes an old link away.
      if (paths.mode === "rootless" && findRuntimeDir(paths.stateDir) !== paths.runtimeDir)
        void recordRuntimeDir(paths.stateDir, paths.runtimeDir).catch((thrown: unknown) =>
          log.warn("commands may not find this daemon", { error: toBangerError(thrown).message }),
        );
      return;
    }
    log.warn("the API socket is gone, so this daemon ends and the next command starts another", {
      path: paths.apiSocket,
    });
    void stop();
  }, SOCKET_WATCH_MS);

  async function end(): Promise<void> {
    clearInterval(patrol);
    clearInterval(watch);
    if (hasSocket()) unlinkSync(paths.apiSocket);
    // Nobody new; those who watch an operation hang up, which cancels it; then what they began is taken back.
    await api.close();
    await operations.drain(DRAIN_TIMEOUT_MS);
    service.agents.close();
    await patrolling;
    await service.restarts.close();
    await engine.close?.();
    log.info("daemon stopped", { pid: process.pid });
    db.close();
    lock.release();
    ended.resolve();
  }
  return { stop, stopped: ended.promise };
}

/**
 * The lock; null when a daemon that answers has it. Behind a handed-over socket nobody else can answer: the predecessor
 * is ending, and is waited for. @throws BangerError DAEMON_UNREACHABLE when one holds it and never answers
 */
async function lockInstance(paths: Paths, hasSocket: boolean): Promise<InstanceLock | null> {
  const deadline = Date.now() + LOCK_TIMEOUT_MS;
  for (;;) {
    const lock = tryLockInstance(join(paths.stateDir, "daemon.lock"));
    if (lock !== null) return lock;
    if (!hasSocket && (await isListening(relocate(paths).apiSocket))) return null;
    if (Date.now() > deadline) {
      throw new BangerError("DAEMON_UNREACHABLE", `another daemon uses ${paths.stateDir} but does not answer`, {
        hint: `fuser ${join(paths.stateDir, "daemon.lock")}`,
      });
    }
    await Bun.sleep(LOCK_POLL_MS);
  }
}

/** A store that can't be read is put aside: every VM is known again from its own handles. */
function openOrReplaceDatabase(path: string, log: Log): ReturnType<typeof openDatabase> {
  try {
    return openDatabase(path);
  } catch (thrown) {
    if (!isDamagedDatabase(thrown)) throw thrown;
    const aside = `${path}.damaged-${Date.now()}`;
    renameSync(path, aside);
    for (const suffix of ["-wal", "-shm"]) if (existsSync(path + suffix)) renameSync(path + suffix, aside + suffix);
    log.error("the store is damaged and was put aside", { aside });
    return openDatabase(path);
  }
}
