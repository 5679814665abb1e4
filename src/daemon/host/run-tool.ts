/** Runs an external program by argument vector; no shell, a deadline always. */

import { BangerError } from "../../shared/errors.ts";
import { type Confinement, limitedArgv, namespacedArgv } from "./confine.ts";

export interface ToolOptions {
  readonly timeoutMs: number;
  readonly signal?: AbortSignal;
  readonly cwd?: string;
  readonly env?: Readonly<Record<string, string | undefined>>;
  readonly stdin?: string;
  /** For a program that parses what others wrote: see {@link Confinement}. */
  readonly confined?: Confinement;
  /** Called with each complete line of standard error as it comes. */
  readonly onStderrLine?: (line: string) => void;
}

export interface ToolResult {
  readonly exitCode: number;
  readonly stdout: string;
  readonly stderr: string;
}

const STDERR_KEPT = 64 * 1024;
/** A guest's answer passes through here too: more than this of standard output is no answer of any tool we ask. */
const STDOUT_LIMIT = 16 * 1024 * 1024;
/** How long a killed tool's pipes may stay open: what it started may have left its group and still hold them. */
const DRAIN_TIMEOUT_MS = 1000;

/**
 * Runs `argv` and returns what it said, whatever its exit status.
 * @throws BangerError TOOL_MISSING when the program isn't there, FAILED past the deadline or beyond 16 MiB of output;
 * the signal's reason on abort.
 */
export async function tryTool(argv: readonly string[], options: ToolOptions): Promise<ToolResult> {
  options.signal?.throwIfAborted();
  const program = argv[0] ?? "";
  const path = Bun.which(program, { PATH: toolPath() });
  if (path === null) throw new BangerError("TOOL_MISSING", `${program} is not installed`, { details: { program } });
  const command = [path, ...argv.slice(1)];
  const child = Bun.spawn(
    options.confined === undefined ? command : [...(await confinedCommand(command, options.confined))],
    {
      stdin: options.stdin === undefined ? "ignore" : new TextEncoder().encode(options.stdin),
      stdout: "pipe",
      stderr: "pipe",
      env: { ...toolEnvironment(), ...options.env },
      // A group of its own: a ctrl-c meant for the daemon's terminal must not end a tool half way, and a
      // deadline must end what the tool itself started.
      detached: true,
      ...(options.cwd === undefined ? {} : { cwd: options.cwd }),
    },
  );
  let ended = "in time" as "in time" | "too late" | "too long";
  const abandoned = Promise.withResolvers<null>();
  const end = (): void => {
    try {
      process.kill(-child.pid, "SIGKILL");
    } catch {
      // Already gone.
    }
    setTimeout(() => abandoned.resolve(null), DRAIN_TIMEOUT_MS).unref();
  };
  const timer = setTimeout(() => {
    ended = "too late";
    end();
  }, options.timeoutMs);
  const tooLong = (): void => {
    ended = "too long";
    end();
  };
  options.signal?.addEventListener("abort", end, { once: true });
  try {
    const said = Promise.all([
      readAll(child.stdout, tooLong),
      readLines(child.stderr, options.onStderrLine),
      child.exited,
    ]);
    const result = await Promise.race([said, abandoned.promise]);
    options.signal?.throwIfAborted();
    const details = { argv, stderr: result?.[1] ?? "" };
    if (ended === "too long")
      throw new BangerError("FAILED", `${program} said more than ${STDOUT_LIMIT} bytes`, { details });
    if (ended === "too late" || result === null) {
      throw new BangerError("FAILED", `${program} did not end within ${options.timeoutMs / 1000} s`, { details });
    }
    return { stdout: result[0], stderr: result[1], exitCode: result[2] };
  } finally {
    clearTimeout(timer);
    options.signal?.removeEventListener("abort", end);
  }
}

/** How confined programs run on this host, and why no better. */
export interface ConfinementKind {
  readonly kind: "namespaces" | "limits";
  readonly reason: string;
}

const PROBE_TIMEOUT_MS = 10_000;
let probed: Promise<ConfinementKind> | undefined;

/** Found out once: by running a program that way. */
export async function detectConfinement(): Promise<ConfinementKind> {
  probed ??= tryTool(namespacedArgv(["true"], {}), { timeoutMs: PROBE_TIMEOUT_MS }).then(
    ({ exitCode, stderr }): ConfinementKind =>
      exitCode === 0
        ? { kind: "namespaces", reason: "user namespaces work" }
        : { kind: "limits", reason: stderr.trim().split("\n").at(-1) ?? `unshare ended with ${exitCode}` },
    (thrown: unknown): ConfinementKind => ({ kind: "limits", reason: (thrown as Error).message }),
  );
  return await probed;
}

/** For a message about a confined program's work: empty, or in what it falls short and why. */
export async function confinementNote(): Promise<string> {
  const { kind, reason } = await detectConfinement();
  return kind === "namespaces" ? "" : ` (without namespaces of its own: ${reason})`;
}

/** The argv that runs a program confined, for who doesn't use {@link tryTool}: its output is no text. */
export async function confinedCommand(
  command: readonly string[],
  confinement: Confinement,
): Promise<readonly string[]> {
  const { kind } = await detectConfinement();
  return kind === "namespaces" ? namespacedArgv(command, confinement) : limitedArgv(command, confinement);
}

/** Like {@link tryTool}, but a status other than 0 is FAILED with the last of what the tool said. */
export async function runTool(argv: readonly string[], options: ToolOptions): Promise<ToolResult> {
  const result = await tryTool(argv, options);
  if (result.exitCode !== 0) {
    const said = (result.stderr.trim() || result.stdout.trim()).split("\n").slice(-6).join("\n");
    throw new BangerError("FAILED", `${argv[0]} ended with ${result.exitCode}: ${said}`, {
      details: { argv, exitCode: result.exitCode },
    });
  }
  return result;
}

/** PATH of tools: the user's own, and the system directories that a plain user's PATH lacks on Debian. */
export function toolPath(): string {
  return `${process.env["PATH"] ?? ""}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin`;
}

/** What tools see of the environment: enough to work, nothing that steers loaders or shells. */
export function toolEnvironment(): Record<string, string> {
  const kept = ["HOME", "USER", "LOGNAME", "TMPDIR", "http_proxy", "https_proxy", "no_proxy"];
  const env: Record<string, string> = { PATH: toolPath(), LC_ALL: "C.UTF-8" };
  for (const key of kept) {
    const value = process.env[key];
    if (value !== undefined) env[key] = value;
  }
  return env;
}

async function readAll(stream: ReadableStream<Uint8Array>, tooLong: () => void): Promise<string> {
  const decoder = new TextDecoder();
  let text = "";
  for await (const chunk of stream) {
    text += decoder.decode(chunk, { stream: true });
    if (text.length > STDOUT_LIMIT) {
      tooLong();
      break;
    }
  }
  return text + decoder.decode();
}

async function readLines(stream: ReadableStream<Uint8Array>, onLine?: (line: string) => void): Promise<string> {
  const decoder = new TextDecoder();
  let kept = "";
  let partial = "";
  for await (const chunk of stream) {
    const text = decoder.decode(chunk, { stream: true });
    kept = (kept + text).slice(-STDERR_KEPT);
    if (onLine === undefined) continue;
    const lines = (partial + text).split(/[\r\n]+/);
    partial = lines.pop() ?? "";
    for (const line of lines) onLine(line);
  }
  return kept;
}
