/** Where banger's files are. The environment is passed in, and nothing is created here. */

import { join } from "node:path";
import { chooseRuntimeDir, findRuntimeDir } from "./runtime-directory.ts";

export interface Paths {
  readonly mode: "rootless" | "system";
  readonly configFiles: readonly string[];
  readonly stateDir: string;
  readonly cacheDir: string;
  /** Sockets. Private, and on tmpfs if the host has one. */
  readonly runtimeDir: string;
  /** The owner daemon's HTTP API. */
  readonly apiSocket: string;
  readonly sshDir: string;
  readonly database: string;
  readonly daemonLog: string;
  readonly vmsDir: string;
  readonly imagesDir: string;
  readonly kernelsDir: string;
}

/** Paths of system mode that only the helper and the installer use. All are below root-owned directories. */
export interface SystemPaths extends Paths {
  readonly installFile: string;
  /** Root's, 0711. It protects nothing by itself; each part has its own mode. */
  readonly baseDir: string;
  /** Root's, 0711: the jailer's chroot base. The owner must not be able to rename any part of its path. */
  readonly jailDir: string;
  /** Root's, 0711: COW files, 0600. */
  readonly cowDir: string;
  /** Root's, 0700: the record of which VM has which uid. */
  readonly slotsDir: string;
  /**
   * Root's, 0711: the API's socket. systemd changes a socket's owner by name, so nobody else may be able to replace the
   * name.
   */
  readonly apiSocketDir: string;
  /** Root's, 0711: the helper's socket. */
  readonly helperSocketDir: string;
  readonly helperSocket: string;
}

/**
 * Paths of system mode. The owner's state is its own directory below a root-owned one, so that the owner can't rename
 * the jails' parents. `root` is `/` except in tests.
 */
export function systemPaths(root = "/"): SystemPaths {
  const baseDir = join(root, "var/lib/banger");
  const stateDir = join(baseDir, "owner");
  const apiSocketDir = join(root, "run/banger");
  const helperSocketDir = join(root, "run/banger-root");
  // The owner's own directory below a root-owned one, like the state.
  const runtimeDir = join(apiSocketDir, "owner");
  return {
    mode: "system",
    configFiles: [join(root, "etc/banger/config.toml")],
    stateDir,
    cacheDir: join(root, "var/cache/banger"),
    runtimeDir,
    apiSocket: join(apiSocketDir, "bangerd.sock"),
    sshDir: join(stateDir, "ssh"),
    database: join(stateDir, "banger.db"),
    daemonLog: join(stateDir, "daemon.log"),
    vmsDir: join(stateDir, "vms"),
    imagesDir: join(stateDir, "images"),
    kernelsDir: join(stateDir, "kernels"),
    installFile: join(root, "etc/banger/install.toml"),
    baseDir,
    jailDir: join(baseDir, "jail"),
    cowDir: join(baseDir, "cow"),
    slotsDir: join(baseDir, "slots"),
    apiSocketDir,
    helperSocketDir,
    helperSocket: join(helperSocketDir, "bangerd-root.sock"),
  };
}

type Env = Readonly<Record<string, string | undefined>>;

/** The command that restarts the daemon in that mode. */
export const restartCommand = (mode: Paths["mode"]): string =>
  mode === "system" ? "sudo banger system restart" : "banger daemon stop";

/**
 * Paths of rootless mode for a user. XDG variables that aren't absolute are ignored, as the XDG specification requires.
 * The environment decides the runtime directory only if the state directory names none.
 */
export function rootlessPaths(env: Env, home: string, uid: number): Paths {
  const absolute = (value: string | undefined): string | undefined =>
    value?.startsWith("/") === true ? value : undefined;
  const stateDir = join(absolute(env["XDG_STATE_HOME"]) ?? join(home, ".local/state"), "banger");
  const configDir = join(absolute(env["XDG_CONFIG_HOME"]) ?? join(home, ".config"), "banger");
  return {
    mode: "rootless",
    configFiles: [join(configDir, "config.toml")],
    stateDir,
    cacheDir: join(absolute(env["XDG_CACHE_HOME"]) ?? join(home, ".cache"), "banger"),
    ...runtimePaths(findRuntimeDir(stateDir) ?? chooseRuntimeDir(env, uid, stateDir)),
    sshDir: join(stateDir, "ssh"),
    database: join(stateDir, "banger.db"),
    daemonLog: join(stateDir, "daemon.log"),
    vmsDir: join(stateDir, "vms"),
    imagesDir: join(stateDir, "images"),
    kernelsDir: join(stateDir, "kernels"),
  };
}

/**
 * The same paths with the runtime directory that the state directory names now, because a daemon may have started
 * meanwhile.
 */
export function relocate<P extends Paths>(paths: P): P {
  const runtimeDir = paths.mode === "rootless" ? findRuntimeDir(paths.stateDir) : null;
  return runtimeDir === null ? paths : { ...paths, ...runtimePaths(runtimeDir) };
}

function runtimePaths(runtimeDir: string): Pick<Paths, "runtimeDir" | "apiSocket"> {
  return { runtimeDir, apiSocket: join(runtimeDir, "bangerd.sock") };
}
