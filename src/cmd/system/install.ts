/** `banger system install`: root, idempotent, says each thing before it does it. */

import { closeSync, constants, fstatSync, openSync, readFileSync } from "node:fs";
import { open, rename } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import { type Config, loadConfig } from "../../shared/config.ts";
import { BangerError, isErrno } from "../../shared/errors.ts";
import { formatInstallConfig, type InstallConfig } from "../../shared/install-config.ts";
import { type SystemPaths, systemPaths } from "../../shared/places/paths.ts";
import { VERSION } from "../../shared/version.ts";
import { findOwner, readIdTables } from "./host/accounts.ts";
import { callHelper } from "../../shared/helper-client.ts";
import { pingDaemon } from "../daemon/ping.ts";
import { pinnedRelease } from "./firecracker/release.ts";
import {
  FIRECRACKER_DIR,
  findInSystem,
  type Installed,
  placeFromDirectory,
  placeFromRelease,
} from "./firecracker/place.ts";
import { checkRootOnly, type DirectoryRule, ensureDirectory, placeFile, placeLink } from "./place.ts";
import { readInstall } from "./read-install.ts";
import { pickReservedRange } from "./host/reserved-ids.ts";
import { runRootTool } from "./host/root-tool.ts";
import { checkSystemd, systemctl } from "./host/systemd.ts";
import {
  DAEMON_EXECUTABLE,
  HELPER_EXECUTABLE,
  renderSystemFiles,
  SERVICES,
  TMPFILES_PATH,
  UDEV_RULES_PATH,
  UNITS,
} from "./units.ts";

export const EXECUTABLE = "/usr/local/bin/banger";
const TOOL_TIMEOUT_MS = 60_000;
const ANSWER_TIMEOUT_MS = 30_000;
const SETTINGS_LIMIT_BYTES = 1024 * 1024;
/** Of the owner's runtime files, the directory of VMs'. */
const RUNTIME_VMS = "vms";

export interface InstallOptions {
  /** Null: the owner of the last time. */
  readonly owner: string | null;
  /** A directory with firecracker and jailer; `none` installs without; null takes what is there, else the pinned release. */
  readonly firecracker: { readonly directory: string } | "none" | null;
  /** Told each thing before it is done. */
  readonly say: (message: string) => void;
}

export interface InstallResult {
  readonly owner: string;
  readonly version: string;
  readonly firecracker: string | null;
  /** Paths that were made or changed; none when everything was so already. */
  readonly changed: readonly string[];
}

/** @throws BangerError NEEDS_ROOT for anybody else */
export function checkRoot(command: string): void {
  if (process.getuid?.() !== 0)
    throw new BangerError("NEEDS_ROOT", `${command} needs root`, { hint: `sudo ${command}` });
}

/**
 * Installs, or brings what is installed up to this executable. Running VMs keep running.
 * @throws BangerError NEEDS_ROOT, HOST_UNSUPPORTED, USAGE, UNSAFE_DIRECTORY, IN_USE (another owner), NETWORK,
 * DIGEST_MISMATCH, TOOL_MISSING, FAILED, DAEMON_UNREACHABLE
 */
export async function installSystem(options: InstallOptions): Promise<InstallResult> {
  checkRoot("banger system install");
  checkSystemd();
  const { say } = options;
  const paths = systemPaths();
  const executable = await readSelf();
  for (const path of [dirname(EXECUTABLE), dirname(FIRECRACKER_DIR), paths.baseDir, dirname(paths.installFile)])
    await checkRootOnly(path);
  const before = (await readInstall(paths.installFile)) ?? (await readInstall(keptInstallFile(paths)));
  const owner = await decideOwner(options.owner, before);
  const vm_ids = before?.vm_ids ?? pickRange(await readIdTables());
  const { bridge_name: bridge } = readSettings(paths);

  const changed: string[] = [];
  const note = (path: string, isChanged: boolean): void => {
    if (isChanged) changed.push(path);
  };
  process.umask(0o077);
  const firecracker = await placeFirecracker(options, before?.firecracker);
  const config: InstallConfig = { owner, vm_ids, ...(firecracker === null ? {} : { firecracker }) };

  for (const rule of directories(config, paths)) {
    say(`directory ${rule.path} (${rule.uid}:${rule.gid}, ${rule.mode.toString(8)})`);
    note(rule.path, await ensureDirectory(rule));
  }
  say(
    `${paths.installFile}: owner ${owner.name} (${owner.uid}), VM ids ${vm_ids.first} to ${vm_ids.first + vm_ids.count - 1}`,
  );
  note(paths.installFile, await placeFile(paths.installFile, formatInstallConfig(config), 0o644));
  say(`executable ${EXECUTABLE} (banger ${VERSION})`);
  note(EXECUTABLE, await placeFile(EXECUTABLE, executable, 0o755));
  for (const path of [DAEMON_EXECUTABLE, HELPER_EXECUTABLE]) {
    say(`link ${path} to ${EXECUTABLE}`);
    note(path, await placeLink(path, basename(EXECUTABLE)));
  }
  for (const file of renderSystemFiles(config, paths, bridge)) {
    say(file.path);
    note(file.path, await placeFile(file.path, file.text, 0o644));
  }
  await startUnits(say, paths, changed.length > 0);
  return { owner: owner.name, version: VERSION, firecracker: firecracker?.version ?? null, changed };
}

/**
 * The settings of system mode. The owner may write them where root lets him, so neither a FIFO nor a lease holds this up.
 * @throws BangerError CONFIG_INVALID
 */
function readSettings(paths: SystemPaths): Config {
  const read = (path: string): string | null => {
    let fd: number;
    try {
      fd = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK);
    } catch (thrown) {
      if (isErrno(thrown, "ENOENT")) return null;
      throw thrown;
    }
    try {
      const info = fstatSync(fd);
      if (!info.isFile() || info.size > SETTINGS_LIMIT_BYTES)
        throw new BangerError("CONFIG_INVALID", `${path} is not a file of at most ${SETTINGS_LIMIT_BYTES} bytes`);
      return readFileSync(fd, "utf8");
    } finally {
      closeSync(fd);
    }
  };
  return loadConfig(paths.configFiles, read).values;
}

/** Where an uninstall that keeps the state keeps the owner and the ids that the state belongs to. */
export function keptInstallFile(paths: SystemPaths): string {
  return `${paths.baseDir}/install.toml`;
}

/** Every directory of the installed system, parents first. */
export function directories({ owner }: InstallConfig, paths: SystemPaths): readonly DirectoryRule[] {
  const root = { uid: 0, gid: 0 };
  const owned = { uid: owner.uid, gid: owner.gid, mode: 0o700 };
  return [
    { path: dirname(paths.installFile), ...root, mode: 0o755 },
    { path: dirname(TMPFILES_PATH), ...root, mode: 0o755 },
    { path: dirname(UDEV_RULES_PATH), ...root, mode: 0o755 },
    { path: paths.baseDir, ...root, mode: 0o711 },
    { path: paths.stateDir, ...owned },
    { path: paths.jailDir, ...root, mode: 0o711 },
    { path: paths.cowDir, ...root, mode: 0o711 },
    { path: paths.slotsDir, ...root, mode: 0o700 },
    { path: paths.cacheDir, ...owned },
  ];
}

/** This executable's own bytes, from the process, not from a name that may mean another file by now. */
async function readSelf(): Promise<Uint8Array> {
  if (!Bun.main.startsWith("/$bunfs/"))
    throw new BangerError("USAGE", "only the compiled executable can install itself", { hint: "bun run build" });
  await using self = await open("/proc/self/exe", "r");
  return await self.readFile();
}

async function decideOwner(asked: string | null, before: InstallConfig | null): Promise<InstallConfig["owner"]> {
  const name = asked ?? before?.owner.name ?? process.env["SUDO_USER"];
  if (name === undefined || name === "")
    throw new BangerError("USAGE", "no owner given: name the user who will own the VMs", {
      hint: "sudo banger system install --owner $USER",
    });
  const owner = await findOwner(name);
  if (before !== null && before.owner.uid !== owner.uid)
    throw new BangerError(
      "IN_USE",
      `banger is already installed for ${before.owner.name} and can have only one owner`,
      {
        hint: "sudo banger system uninstall --purge",
      },
    );
  return owner;
}

function pickRange(tables: Parameters<typeof pickReservedRange>[0]): InstallConfig["vm_ids"] {
  const range = pickReservedRange(tables);
  if (range === null) throw new BangerError("HOST_UNSUPPORTED", "this host has no free range of user ids for VMs");
  return range;
}

async function placeFirecracker(options: InstallOptions, before: Installed | undefined): Promise<Installed | null> {
  const { firecracker: wanted, say } = options;
  if (wanted === "none") {
    say(
      before === undefined
        ? "no Firecracker: VMs can't start until it is installed"
        : `keeping Firecracker ${before.version}`,
    );
    return before ?? null;
  }
  if (wanted !== null) {
    say(`copying Firecracker and jailer from ${wanted.directory} to ${FIRECRACKER_DIR}`);
    return await placeFromDirectory(wanted.directory);
  }
  if (before !== undefined) {
    say(`keeping Firecracker ${before.version}`);
    return before;
  }
  const found = await findInSystem();
  if (found !== null) {
    say(`copying Firecracker and jailer from ${found} to ${FIRECRACKER_DIR}`);
    return await placeFromDirectory(found);
  }
  const release = pinnedRelease(process.arch);
  say(`downloading Firecracker ${release.version} from ${release.url} to ${FIRECRACKER_DIR}`);
  return await placeFromRelease(release);
}

async function startUnits(say: (message: string) => void, paths: SystemPaths, isChanged: boolean): Promise<void> {
  say("reloading systemd and starting banger's units");
  await systemctl("daemon-reload");
  await takeSocketDirectory(say, paths);
  await runRootTool(["systemd-tmpfiles", "--create", TMPFILES_PATH], TOOL_TIMEOUT_MS);
  await moveRuntimeFiles(paths);
  await systemctl("enable", "--quiet", ...UNITS);
  await systemctl("start", ...UNITS.filter((unit) => unit.endsWith(".socket")));
  // Whoever asks while they restart waits at the socket.
  await systemctl(isChanged ? "restart" : "start", ...SERVICES);
  await waitForAnswers(paths);
}

/**
 * An install before this one gave the API socket's directory to the owner, who may have put anything in the place of what
 * belongs there now. Once the directory is root's its names stay what they are, and the socket is made anew.
 */
async function takeSocketDirectory(say: (message: string) => void, paths: SystemPaths): Promise<void> {
  await using directory = await open(
    paths.apiSocketDir,
    constants.O_RDONLY | constants.O_DIRECTORY | constants.O_NOFOLLOW,
  ).catch((thrown: unknown) => {
    if (isErrno(thrown, "ENOENT")) return null;
    throw thrown;
  });
  if (directory === null || (await directory.stat()).uid === 0) return;
  say(`directory ${paths.apiSocketDir} now belongs to root; the daemon is unavailable for a moment`);
  await systemctl("stop", "bangerd.service", "bangerd.socket");
  await directory.chown(0, 0);
  await directory.chmod(0o711);
  await runRootTool(["rm", "-rf", "--one-file-system", "--", paths.apiSocket, paths.runtimeDir], TOOL_TIMEOUT_MS);
}

/**
 * Where an install before this one had the owner's runtime files, their parent is root's by now: what is moved can't be
 * exchanged, and a rename follows nothing. Running VMs keep their sockets.
 */
async function moveRuntimeFiles(paths: SystemPaths): Promise<void> {
  await rename(join(paths.apiSocketDir, RUNTIME_VMS), join(paths.runtimeDir, RUNTIME_VMS)).catch((thrown: unknown) => {
    // Not there, or moved before this.
    if (!isErrno(thrown, "ENOENT") && !isErrno(thrown, "ENOTEMPTY") && !isErrno(thrown, "EEXIST")) throw thrown;
  });
}

/** Resolves when both daemons answer, and are of this version. @throws BangerError DAEMON_UNREACHABLE, HELPER_UNREACHABLE, VERSION_MISMATCH */
export async function waitForAnswers(paths: SystemPaths): Promise<void> {
  const [daemon, helper] = await Promise.all([
    pingDaemon(paths.apiSocket, ANSWER_TIMEOUT_MS),
    callHelper(paths.helperSocket, "priv.ping", {}, { answerMs: ANSWER_TIMEOUT_MS }),
  ]);
  for (const [name, version] of [
    ["owner daemon", daemon.version],
    ["root helper", helper.version],
  ] as const) {
    if (version !== VERSION)
      throw new BangerError("VERSION_MISMATCH", `the ${name} is version ${version}, but this banger is ${VERSION}`);
  }
}
