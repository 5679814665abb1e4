/**
 * The compiled binary as a user has it: a home of its own per test, every process it left ended with it.
 */

import { mkdir, mkdtemp, readdir, readFile, rename, rm, stat } from "node:fs/promises";
import { existsSync } from "node:fs";
import { join, resolve } from "node:path";
import { isErrno } from "../../src/shared/errors.ts";
import { chooseRuntimeDir, findRuntimeDir } from "../../src/shared/places/runtime-directory.ts";

const ROOT = resolve(import.meta.dir, "../..");

/** The binary under test: `BANGER_BIN`, else `dist/banger`, which `npm test` builds first. */
export const BANGER = resolve(process.env["BANGER_BIN"] ?? join(ROOT, "dist/banger"));

export interface RunResult {
  readonly status: number;
  readonly stdout: string;
  readonly stdoutBytes: Uint8Array;
  readonly stderr: string;
}

export interface RunOptions {
  readonly stdin?: Uint8Array | string | "never-closed" | "closed";
  readonly env?: Readonly<Record<string, string>>;
  readonly cwd?: string;
  /** Kills the command and fails when it runs longer. */
  readonly timeoutMs?: number;
}

/** A throw-away user: HOME, XDG directories and all banger left in them. */
export class Home implements AsyncDisposable {
  readonly dir: string;
  readonly env: Readonly<Record<string, string>>;
  /** The binary that runs here. */
  readonly banger: string;

  constructor(dir: string, banger: string = BANGER) {
    this.dir = dir;
    this.banger = banger;
    this.env = {
      HOME: dir,
      PATH: process.env["PATH"] ?? "/usr/sbin:/usr/bin:/sbin:/bin",
      LANG: "C.UTF-8",
      XDG_RUNTIME_DIR: join(dir, "run"),
    };
  }

  get stateDir(): string {
    return join(this.dir, ".local/state/banger");
  }

  get runtimeDir(): string {
    return findRuntimeDir(this.stateDir) ?? chooseRuntimeDir(this.env, process.getuid?.() ?? -1, this.stateDir);
  }

  spawn(args: readonly string[], options: RunOptions = {}): Bun.Subprocess<"pipe" | "ignore", "pipe", "pipe"> {
    const piped = options.stdin !== undefined && options.stdin !== "closed";
    const child = Bun.spawn([this.banger, ...args], {
      cwd: options.cwd ?? this.dir,
      env: { ...this.env, ...options.env },
      stdin: piped ? "pipe" : "ignore",
      stdout: "pipe",
      stderr: "pipe",
    });
    if (piped && options.stdin !== "never-closed" && child.stdin !== undefined) {
      child.stdin.write(options.stdin as string | Uint8Array);
      void child.stdin.end();
    }
    return child;
  }

  async run(args: readonly string[], options: RunOptions = {}): Promise<RunResult> {
    const child = this.spawn(args, options);
    const timeoutMs = options.timeoutMs ?? 120_000;
    let timedOut = false;
    const timer = setTimeout(() => {
      timedOut = true;
      child.kill("SIGKILL");
    }, timeoutMs);
    const [bytes, stderr, status] = await Promise.all([
      new Response(child.stdout).bytes(),
      new Response(child.stderr).text(),
      child.exited,
    ]);
    clearTimeout(timer);
    const stdout = new TextDecoder().decode(bytes);
    if (timedOut)
      throw new Error(
        `banger ${args.join(" ")} did not end within ${timeoutMs} ms\nstdout: ${stdout}\nstderr: ${stderr}`,
      );
    return { status, stdout, stdoutBytes: bytes, stderr };
  }

  /** Runs and returns stdout; fails the test with everything said when the status isn't 0. */
  async ok(args: readonly string[], options: RunOptions = {}): Promise<string> {
    const result = await this.run(args, options);
    if (result.status !== 0) {
      throw new Error(
        `banger ${args.join(" ")} ended with ${result.status}\nstdout: ${result.stdout}\nstderr: ${result.stderr}\ndaemon: ${await this.daemonLogTail()}`,
      );
    }
    return result.stdout;
  }

  /** Parses the answer of a `--json` command. */
  async json<T>(args: readonly string[], options: RunOptions = {}): Promise<T> {
    return JSON.parse(await this.ok([...args, "--json"], options)) as T;
  }

  async daemonPid(): Promise<number | null> {
    const result = await this.run(["daemon", "status", "--json"]);
    if (result.status !== 0) return null;
    return (JSON.parse(result.stdout) as { pid: number | null }).pid;
  }

  async daemonLogTail(): Promise<string> {
    const file = join(this.stateDir, "daemon.log");
    return existsSync(file) ? (await readFile(file, "utf8")).split("\n").slice(-25).join("\n") : "(none)";
  }

  /** Processes, not zombies, whose command line or environment names this home. */
  async processes(): Promise<readonly { readonly pid: number; readonly commandLine: string }[]> {
    const found: { pid: number; commandLine: string }[] = [];
    for (const entry of await readdir("/proc")) {
      const pid = Number(entry);
      if (!Number.isInteger(pid) || pid === process.pid) continue;
      const read = async (name: string): Promise<string> =>
        await readFile(`/proc/${pid}/${name}`, "utf8").catch(() => "");
      const commandLine = (await read("cmdline")).replaceAll("\0", " ").trim();
      if (commandLine !== "" && (commandLine.includes(this.dir) || (await read("environ")).includes(this.dir)))
        found.push({ pid, commandLine });
    }
    return found;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (let round = 0; round < 20; round++) {
      const left = await this.processes();
      if (left.length === 0) break;
      for (const { pid } of left) {
        try {
          process.kill(pid, "SIGKILL");
        } catch {
          // Ended between the listing and the signal.
        }
      }
      await Bun.sleep(50);
    }
    await rm(this.dir, { recursive: true, force: true });
  }
}

/** A home with nothing in it. Short path: unix socket names end at 107 bytes. */
export async function makeHome(banger: string = BANGER): Promise<Home> {
  const dir = await mkdtemp("/tmp/bt-");
  await mkdir(join(dir, "run"), { mode: 0o700 });
  return new Home(dir, banger);
}

const CACHE = join(ROOT, "test/.cache");

/** What the built image depends on, so that a changed builder is never tested with an old image. */
async function imageCacheKey(): Promise<string> {
  const hash = new Bun.CryptoHasher("sha256");
  for (const part of ["src/daemon/image", "src/daemon/kernel"]) {
    const files = (await readdir(join(ROOT, part), { recursive: true })).sort();
    for (const file of files) {
      const path = join(ROOT, part, file);
      if ((await stat(path)).isFile()) hash.update(file).update(await readFile(path));
    }
  }
  return hash.digest("hex").slice(0, 16);
}

/** Keeps a home's images and kernels for the tests that follow. */
export async function keepImages(home: Home): Promise<void> {
  const target = join(CACHE, await imageCacheKey());
  if (existsSync(target)) return;
  const staging = `${target}.${process.pid}`;
  await mkdir(staging, { recursive: true });
  await copyTree(join(home.stateDir, "images"), join(staging, "images"));
  await copyTree(join(home.stateDir, "kernels"), join(staging, "kernels"));
  try {
    await rename(staging, target);
  } catch (thrown) {
    // Somebody kept the same meanwhile.
    if (!isErrno(thrown, "ENOTEMPTY") && !isErrno(thrown, "EEXIST")) throw thrown;
    await rm(staging, { recursive: true, force: true });
  }
}

/** A directory with the `images` and `kernels` of `debian-trixie`, built once per version of the builder. Not to be changed. */
export async function ensureImages(): Promise<string> {
  const cached = join(CACHE, await imageCacheKey());
  if (existsSync(cached)) return cached;
  await using home = await makeHome();
  await home.ok(["image", "build", "debian-trixie"], { timeoutMs: 600_000 });
  await home.ok(["daemon", "stop"]);
  await keepImages(home);
  return cached;
}

/** A home that already holds `debian-trixie`. */
export async function makeHomeWithImage(banger: string = BANGER): Promise<Home> {
  const cached = await ensureImages();
  const home = await makeHome(banger);
  await mkdir(home.stateDir, { recursive: true, mode: 0o700 });
  await copyTree(join(cached, "images"), join(home.stateDir, "images"));
  await copyTree(join(cached, "kernels"), join(home.stateDir, "kernels"));
  return home;
}

/** Copies with holes kept: a root file system is mostly hole. */
async function copyTree(from: string, to: string): Promise<void> {
  const child = Bun.spawn(["cp", "-a", "--sparse=always", "--reflink=auto", from, to], { stderr: "pipe" });
  if ((await child.exited) !== 0) throw new Error(`cp ${from} ${to}: ${await new Response(child.stderr).text()}`);
}

/** Polls until `check` is true; fails, saying `what`, after `timeoutMs`. */
export async function eventually(
  what: string,
  timeoutMs: number,
  check: () => Promise<boolean> | boolean,
): Promise<void> {
  const deadline = Date.now() + timeoutMs;
  while (!(await check())) {
    if (Date.now() > deadline) throw new Error(`not within ${timeoutMs} ms: ${what}`);
    await Bun.sleep(50);
  }
}
