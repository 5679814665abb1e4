/** Runs an external program by argument vector; no shell, a deadline always. */

import { BangerError } from "../../shared/errors.ts";
import { runProgram } from "../../shared/run-program.ts";
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
const STDOUT_LIMIT_BYTES = 16 * 1024 * 1024;

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
  const result = await runProgram(
    options.confined === undefined ? command : await confinedCommand(command, options.confined),
    {
      timeoutMs: options.timeoutMs,
      env: { ...toolEnvironment(), ...options.env },
      stdoutLimitBytes: STDOUT_LIMIT_BYTES,
      stderrKept: STDERR_KEPT,
      name: program,
      asked: argv,
      ...(options.signal === undefined ? {} : { signal: options.signal }),
      ...(options.cwd === undefined ? {} : { cwd: options.cwd }),
      ...(options.stdin === undefined ? {} : { stdin: options.stdin }),
      ...(options.onStderrLine === undefined ? {} : { onStderrLine: options.onStderrLine }),
    },
  );
  return { ...result, stdout: new TextDecoder().decode(result.stdout) };
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
