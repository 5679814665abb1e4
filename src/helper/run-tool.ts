/** Runs external programs as root: by absolute paths from a fixed table, with an environment and a umask of our own. */

import { existsSync } from "node:fs";
import { BangerError } from "../shared/errors.ts";
import { HELPER_TOOLS, type HelperToolName } from "../shared/host-needs.ts";
import { lastWords, type ProgramResult, runProgram } from "../shared/run-program.ts";

export type Tool = HelperToolName;

export interface ToolOptions {
  readonly timeoutMs: number;
  readonly stdin?: string;
  /** The program's umask; 077 by default. */
  readonly umask?: number;
}

const STDOUT_LIMIT_BYTES = 4 * 1024 * 1024;
const STDERR_KEPT = 4096;

function findTool(tool: Tool): string | undefined {
  return HELPER_TOOLS[tool].paths.find((candidate) => existsSync(candidate));
}

export function isInstalled(tool: Tool): boolean {
  return findTool(tool) !== undefined;
}

function toolPath(tool: Tool): string {
  const path = findTool(tool);
  if (path === undefined) throw new BangerError("TOOL_MISSING", `${tool} is not installed`, { details: { tool } });
  return path;
}

/** @throws BangerError TOOL_MISSING; FAILED past the deadline or beyond the output's limit. */
export async function tryTool(tool: Tool, args: readonly string[], options: ToolOptions): Promise<ProgramResult> {
  return await runProgram([toolPath(tool), ...args], {
    timeoutMs: options.timeoutMs,
    env: { PATH: "/usr/sbin:/usr/bin:/sbin:/bin", LC_ALL: "C.UTF-8" },
    cwd: "/",
    umask: options.umask ?? 0o077,
    stdoutLimitBytes: STDOUT_LIMIT_BYTES,
    stderrKept: STDERR_KEPT,
    name: tool,
    ...(options.stdin === undefined ? {} : { stdin: options.stdin }),
  });
}

/** Returns standard output as text. A non-zero exit status is FAILED, with the last lines the program printed. */
export async function runTool(tool: Tool, args: readonly string[], options: ToolOptions): Promise<string> {
  const result = await tryTool(tool, args, options);
  if (result.exitCode === 0) return new TextDecoder().decode(result.stdout);
  const said = lastWords(result, 3).join("; ");
  throw new BangerError("FAILED", `${tool} ${args[0] ?? ""} ended with ${result.exitCode}: ${said}`);
}
