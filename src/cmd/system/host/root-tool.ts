/** Runs the host's own programs as root for the installer: absolute search path of the system, clean environment. */

import { BangerError } from "../../../shared/errors.ts";

const SYSTEM_PATH = "/usr/sbin:/usr/bin:/sbin:/bin";

export interface ToolResult {
  readonly status: number;
  readonly stdout: string;
  readonly stderr: string;
}

/** @throws BangerError TOOL_MISSING; FAILED past the deadline. */
export async function tryRootTool(argv: readonly string[], timeoutMs: number): Promise<ToolResult> {
  const program = argv[0] ?? "";
  const path = program.startsWith("/") ? program : Bun.which(program, { PATH: SYSTEM_PATH });
  if (path === null) throw new BangerError("TOOL_MISSING", `${program} is not installed`, { details: { program } });
  const child = Bun.spawn([path, ...argv.slice(1)], {
    stdin: "ignore",
    stdout: "pipe",
    stderr: "pipe",
    cwd: "/",
    env: { PATH: SYSTEM_PATH, LC_ALL: "C.UTF-8" },
    timeout: timeoutMs,
    killSignal: "SIGKILL",
  });
  const [stdout, stderr] = await Promise.all([new Response(child.stdout).text(), new Response(child.stderr).text()]);
  const status = await child.exited;
  if (child.signalCode === "SIGKILL")
    throw new BangerError("FAILED", `${argv.join(" ")} did not end within ${timeoutMs / 1000} s`, {
      details: { argv },
    });
  return { status, stdout, stderr };
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
