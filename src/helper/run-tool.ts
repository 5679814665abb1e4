/** Runs external programs: absolute paths from a fixed table, argument vectors, our own environment, a deadline. */

import { existsSync } from "node:fs";
import { BangerError } from "../shared/errors.ts";
import { HELPER_TOOLS, type HelperToolName } from "../shared/host-needs.ts";

export type Tool = HelperToolName;

export interface ToolOptions {
  readonly timeoutMs: number;
  readonly stdin?: string;
  /** The program's umask; 077 by default. */
  readonly umask?: number;
}

export interface ToolResult {
  readonly exitCode: number;
  readonly stdout: Uint8Array;
  readonly stderr: string;
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

/** @throws BangerError TOOL_MISSING; FAILED after the deadline or if the output is too long */
export async function tryTool(tool: Tool, args: readonly string[], options: ToolOptions): Promise<ToolResult> {
  const argv = [toolPath(tool), ...args];
  // The umask belongs to this process. Nothing else runs between these two lines, and spawn has forked when it returns.
  const umask = process.umask(options.umask ?? 0o077);
  let child;
  try {
    child = Bun.spawn(argv, {
      stdin: options.stdin === undefined ? "ignore" : new TextEncoder().encode(options.stdin),
      stdout: "pipe",
      stderr: "pipe",
      env: { PATH: "/usr/sbin:/usr/bin:/sbin:/bin", LC_ALL: "C.UTF-8" },
      cwd: "/",
      // Its own process group, so that the deadline also ends what the program started.
      detached: true,
    });
  } finally {
    process.umask(umask);
  }
  let ended: "in time" | "too late" | "too long" = "in time";
  const end = (why: "too late" | "too long"): void => {
    ended = why;
    try {
      process.kill(-child.pid, "SIGKILL");
    } catch {
      // It has ended already.
    }
  };
  const timer = setTimeout(() => end("too late"), options.timeoutMs);
  try {
    const [stdout, stderr, exitCode] = await Promise.all([
      readUpTo(child.stdout, STDOUT_LIMIT_BYTES, () => end("too long")),
      readTail(child.stderr),
      child.exited,
    ]);
    const why = ended as "in time" | "too late" | "too long";
    if (why === "too late") throw new BangerError("FAILED", `${tool} did not end within ${options.timeoutMs / 1000} s`);
    if (why === "too long") throw new BangerError("FAILED", `${tool} printed more than ${STDOUT_LIMIT_BYTES} bytes`);
    return { exitCode, stdout, stderr };
  } finally {
    clearTimeout(timer);
  }
}

/** Returns standard output as text. A non-zero exit status is FAILED, with the last lines the program printed. */
export async function runTool(tool: Tool, args: readonly string[], options: ToolOptions): Promise<string> {
  const { exitCode, stdout, stderr } = await tryTool(tool, args, options);
  const text = new TextDecoder().decode(stdout);
  if (exitCode === 0) return text;
  const said = (stderr.trim() || text.trim()).split("\n").slice(-3).join("; ");
  throw new BangerError("FAILED", `${tool} ${args[0] ?? ""} exited with status ${exitCode}: ${said}`);
}

async function readUpTo(stream: ReadableStream<Uint8Array>, limit: number, tooLong: () => void): Promise<Uint8Array> {
  const chunks: Uint8Array[] = [];
  let size = 0;
  for await (const chunk of stream) {
    size += chunk.length;
    if (size > limit) {
      tooLong();
      break;
    }
    chunks.push(chunk);
  }
  return Buffer.concat(chunks);
}

async function readTail(stream: ReadableStream<Uint8Array>): Promise<string> {
  const decoder = new TextDecoder();
  let text = "";
  for await (const chunk of stream) text = (text + decoder.decode(chunk, { stream: true })).slice(-STDERR_KEPT);
  return text;
}
