/**
 * Where things live (product.md "Files"). Pure: the environment is passed in, nothing is created here.
 */

import { join } from "node:path";

export interface Paths {
  readonly mode: "rootless" | "system";
  readonly configFiles: readonly string[];
  readonly stateDir: string;
  readonly cacheDir: string;
  /** Sockets. Private, on tmpfs where the host has one. */
  readonly runtimeDir: string;
  /** HTTP API of the owner daemon. */
  readonly apiSocket: string;
  readonly sshDir: string;
  readonly database: string;
  readonly daemonLog: string;
  readonly vmsDir: string;
  readonly imagesDir: string;
  readonly kernelsDir: string;
}

type Env = Readonly<Record<string, string | undefined>>;

/** Paths of rootless mode for a user. XDG variables that aren't absolute are ignored, as the XDG specification asks. */
export function rootlessPaths(env: Env, home: string, uid: number): Paths {
  const absolute = (value: string | undefined): string | undefined =>
    value?.startsWith("/") === true ? value : undefined;
  const stateDir = join(absolute(env["XDG_STATE_HOME"]) ?? join(home, ".local/state"), "banger");
  const configDir = join(absolute(env["XDG_CONFIG_HOME"]) ?? join(home, ".config"), "banger");
  const runtimeBase = absolute(env["XDG_RUNTIME_DIR"]);
  const runtimeDir = runtimeBase === undefined ? `/tmp/banger-runtime-${uid}` : join(runtimeBase, "banger");
  return {
    mode: "rootless",
    configFiles: [join(configDir, "config.toml")],
    stateDir,
    cacheDir: join(absolute(env["XDG_CACHE_HOME"]) ?? join(home, ".cache"), "banger"),
    runtimeDir,
    apiSocket: join(runtimeDir, "bangerd.sock"),
    sshDir: join(stateDir, "ssh"),
    database: join(stateDir, "banger.db"),
    daemonLog: join(stateDir, "daemon.log"),
    vmsDir: join(stateDir, "vms"),
    imagesDir: join(stateDir, "images"),
    kernelsDir: join(stateDir, "kernels"),
  };
}
