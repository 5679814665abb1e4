/** Runs the host's own programs as root for the installer: absolute search path of the system, clean environment. */

import { BangerError } from "../../../shared/errors.ts";
import { runProgram } from "../../../shared/run-program.ts";

const SYSTEM_PATH = "/usr/sbin:/usr/bin:/sbin:/bin";
const OUTPUT_LIMIT_BYTES = 16 * 1024 * 1024;

export interface ToolResult {
  readonly status: number;
  readonly stdout: string;
  readonly stderr: string;
}

/** @throws BangerError TOOL_MISSING; FAILED past the deadline or beyond 16 MiB of output. */
export async function tryRootTool(argv: readonly string[], timeoutMs: number): Promise<ToolResult> {
  const program = argv[0] ?? "";
  const path = program.startsWith("/") ? program : Bun.which(program, { PATH: SYSTEM_PATH });
  if (path === null) throw new BangerError("TOOL_MISSING", `${program} is not installed`, { details: { program } });
  const { exitCode, stdout, stderr } = await runProgram([path, ...argv.slice(1)], {
    timeoutMs,
    env: { PATH: SYSTEM_PATH, LC_ALL: "C.UTF-8" },
    cwd: "/",
    stdoutLimitBytes: OUTPUT_LIMIT_BYTES,
    stderrKept: OUTPUT_LIMIT_BYTES,
    name: argv.join(" "),
  });
  return { status: exitCode, stdout: new TextDecoder().decode(stdout), stderr };
}

/** Like {@link tryRootTool}; a status other than 0 is FAILED with what the program said. */
export async function runRootTool(argv: readonly string[], timeoutMs: number): Promise<string> {
  const { status, stdout, stderr } = await tryRootTool(argv, timeoutMs);
  if (status !== 0) {
    const said = (stderr.trim() || stdout.trim()).split("\n").slice(-6).join("\n");
    throw new BangerError("FAILED", `${argv.join(" ")} ended with ${status}: ${said}`, { details: { argv, status } });
  }
  return stdout;
}
