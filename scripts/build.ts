/**
 * `bun run build [--target T] [--outfile FILE] [--for-tests]`: compiles src/main.ts and the guest agent into one executable,
 * runs it, and only then renames it into place. A running banger keeps its file, and nobody sees a half-written one.
 *
 * `--for-tests` builds dist/banger-for-tests, which accepts an old Firecracker. No installer takes it.
 */

import { chmod, mkdir, mkdtemp, rename, rm } from "node:fs/promises";
import { basename, dirname, join, resolve } from "node:path";
import { runProgram } from "../src/shared/run-program.ts";
import { parseArgs } from "node:util";
import { VERSION } from "../src/shared/version.ts";
import { type AgentArch, buildAgent } from "./build-agent.ts";

const ROOT = resolve(import.meta.dir, "..");
/** A cross build first downloads another Bun. */
const COMPILE_TIMEOUT_MS = 300_000;
const RUN_TIMEOUT_MS = 30_000;
const OUTPUT_LIMIT_BYTES = 1024 * 1024;

/** The names of `--target` and Bun's names for them. Without one, the binary is for the build machine. */
export const BUILD_TARGETS = {
  x64: "bun-linux-x64",
  "x64-baseline": "bun-linux-x64-baseline",
  arm64: "bun-linux-arm64",
} as const;
export type BuildTarget = keyof typeof BUILD_TARGETS;

export interface BuildOptions {
  readonly entry: string;
  readonly outfile: string;
  /** Null for the build machine. */
  readonly target: BuildTarget | null;
  /** The guest agent to embed (`readAgentBinary` in src/shared/agent/binary.ts). */
  readonly agent?: string;
  /** Makes a test build (`IS_TEST_BUILD` in src/shared/version.ts). */
  readonly forTests?: boolean;
}

/**
 * The arguments after `bun`. No file in the directory where banger starts may run code in it, so every autoload is off.
 * `--bytecode` without `--format=esm` makes a binary that starts and does nothing.
 */
export function buildArgv(options: BuildOptions): readonly string[] {
  return [
    "build",
    options.entry,
    ...(options.agent === undefined ? [] : [options.agent]),
    "--compile",
    "--no-compile-autoload-dotenv",
    "--no-compile-autoload-bunfig",
    "--no-compile-autoload-tsconfig",
    "--no-compile-autoload-package-json",
    "--bytecode",
    "--format=esm",
    "--splitting",
    "--minify-syntax",
    "--minify-whitespace",
    "--sourcemap=none",
    `--define=BANGER_FOR_TESTS=${options.forTests === true}`,
    ...(options.target === null ? [] : [`--target=${BUILD_TARGETS[options.target]}`]),
    `--outfile=${options.outfile}`,
  ];
}

/** True if a binary of this target runs on a machine of `arch` (`process.arch`). */
export function canRunTarget(target: BuildTarget | null, arch: string): boolean {
  return target === null || (target === "arm64") === (arch === "arm64");
}

/** The architecture of a target's machine, and so of its guests. */
export function targetArch(target: BuildTarget | null, arch: string): AgentArch {
  if (target !== null) return target === "arm64" ? "arm64" : "x64";
  return arch === "arm64" ? "arm64" : "x64";
}

async function run(
  argv: readonly string[],
  env: Readonly<Record<string, string | undefined>>,
  cwd: string,
  timeoutMs: number,
) {
  const limits = { timeoutMs, stdoutLimitBytes: OUTPUT_LIMIT_BYTES, stderrKept: OUTPUT_LIMIT_BYTES };
  const { stdout, stderr, exitCode } = await runProgram(argv, { cwd, env, ...limits });
  return { stdout: new TextDecoder().decode(stdout), stderr, status: exitCode };
}

/**
 * Builds into a staging directory beside `outfile`, checks that `<binary> version` prints `version`, and renames.
 * @returns one sentence about the result
 * @throws Error with the output of the compiler or the new binary; `outfile` is then unchanged
 */
export async function build(options: BuildOptions, version: string): Promise<string> {
  await mkdir(dirname(options.outfile), { recursive: true });
  const staging = await mkdtemp(join(dirname(options.outfile), ".build-"));
  try {
    const staged = join(staging, basename(options.outfile));
    const compiled = await run(
      [process.execPath, ...buildArgv({ ...options, outfile: staged })],
      // In the staging directory, so that the compiler's extra files are removed with it.
      { ...process.env, NO_COLOR: "1" },
      staging,
      COMPILE_TIMEOUT_MS,
    );
    if (compiled.status !== 0)
      throw new Error(`bun build ended with ${compiled.status}\n${compiled.stdout}${compiled.stderr}`.trim());
    await chmod(staged, 0o755);
    const runs = canRunTarget(options.target, process.arch);
    if (runs) {
      const said = await run(
        [staged, "version"],
        { PATH: process.env["PATH"], HOME: staging },
        staging,
        RUN_TIMEOUT_MS,
      );
      if (said.status !== 0 || !said.stdout.trim().split(/\s+/).includes(version))
        throw new Error(
          `the new binary does not print its version ${version}: status ${said.status}\nstdout: ${said.stdout}\nstderr: ${said.stderr}`,
        );
    }
    const { size } = Bun.file(staged);
    await rename(staged, options.outfile);
    return `${options.outfile}: banger ${version}, ${Math.round(size / 1e6)} MB${runs ? "" : "; built for another machine, so not run"}`;
  } finally {
    await rm(staging, { recursive: true, force: true });
  }
}

if (import.meta.main) {
  const { values } = parseArgs({
    options: {
      target: { type: "string" },
      outfile: { type: "string" },
      "for-tests": { type: "boolean", default: false },
    },
  });
  if (values.target !== undefined && !Object.hasOwn(BUILD_TARGETS, values.target)) {
    console.error(`error: --target is one of ${Object.keys(BUILD_TARGETS).join(", ")}`);
    process.exit(2);
  }
  const target = (values.target as BuildTarget | undefined) ?? null;
  try {
    console.log(
      await build(
        {
          agent: await buildAgent({ arch: targetArch(target, process.arch), forTests: false }),
          entry: join(ROOT, "src/main.ts"),
          outfile: resolve(values.outfile ?? join(ROOT, values["for-tests"] ? "dist/banger-for-tests" : "dist/banger")),
          forTests: values["for-tests"],
          target,
        },
        VERSION,
      ),
    );
  } catch (thrown) {
    console.error(`error: ${(thrown as Error).message}`);
    process.exitCode = 1;
  }
}
