/**
 * `bun scripts/build-agent.ts [--arch x64|arm64] [--for-tests]`: compiles the guest agent (src/guest) into
 * dist/guest/banger-agent-<arch>.elf, static and stripped. `--for-tests` builds dist/guest/agent-for-tests, which runs on the
 * build machine with sanitizers and takes `--listen SOCKET` and `--session FD`.
 */

import { mkdir, mkdtemp, rename, rm } from "node:fs/promises";
import { join, resolve } from "node:path";
import { parseArgs } from "node:util";
import { agentHeader } from "./agent-header.ts";

const ROOT = resolve(import.meta.dir, "..");
const SOURCES = join(ROOT, "src/guest");
const OUT = join(ROOT, "dist/guest");
/** A busy machine needs a minute for the sanitizers' build. */
const COMPILE_TIMEOUT_MS = 300_000;

/** Each architecture's compiler, and the Debian packages that have it and a libc to link statically. */
export const AGENT_ARCHS = {
  x64: {
    compiler: "x86_64-linux-gnu-gcc",
    packages: { native: "gcc libc6-dev", cross: "gcc-x86-64-linux-gnu libc6-dev-amd64-cross" },
  },
  arm64: {
    compiler: "aarch64-linux-gnu-gcc",
    packages: { native: "gcc libc6-dev", cross: "gcc-aarch64-linux-gnu libc6-dev-arm64-cross" },
  },
} as const;
export type AgentArch = keyof typeof AGENT_ARCHS;

export interface AgentBuild {
  readonly arch: AgentArch;
  readonly forTests: boolean;
}

/** Where a build's result is. */
export function agentPath({ arch, forTests }: AgentBuild): string {
  return join(OUT, forTests ? "agent-for-tests" : `banger-agent-${arch}.elf`);
}

/** The compiler and the packages to install where it is missing, on a machine of `host` (`process.arch`). */
export function agentCompiler(arch: AgentArch, host: string): { readonly program: string; readonly packages: string } {
  const { compiler, packages } = AGENT_ARCHS[arch];
  return arch === host
    ? { program: "gcc", packages: packages.native }
    : { program: compiler, packages: packages.cross };
}

/** The compiler's arguments. Warnings are errors; the product has no symbols and no dynamic loader. */
export function agentArgv(options: {
  readonly sources: readonly string[];
  readonly include: readonly string[];
  readonly outfile: string;
  readonly forTests: boolean;
}): readonly string[] {
  const variant = options.forTests
    ? ["-O1", "-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-DBANGER_FOR_TESTS"]
    : ["-Os", "-static", "-s", "-ffunction-sections", "-fdata-sections", "-Wl,--gc-sections"];
  return [
    ...["-std=c11", "-D_GNU_SOURCE", "-Wall", "-Wextra", "-Werror", "-fstack-protector-strong"],
    ...variant,
    ...options.include.map((directory) => `-I${directory}`),
    ...["-o", options.outfile],
    ...options.sources,
  ];
}

/**
 * Compiles the agent and returns its path.
 * @throws Error that names the packages to install, or has the compiler's output
 */
export async function buildAgent(options: AgentBuild): Promise<string> {
  const { program, packages } = agentCompiler(options.arch, process.arch);
  const compiler = Bun.which(program);
  if (compiler === null)
    throw new Error(`${program} is missing, which compiles the guest agent: sudo apt-get install -y ${packages}`);
  await mkdir(OUT, { recursive: true });
  // Builds may run at the same time; each sees its own header and moves a whole program into place.
  const staging = await mkdtemp(join(OUT, ".build-"));
  try {
    await Bun.write(join(staging, "protocol.h"), agentHeader());
    const staged = join(staging, "agent");
    const sources = (await Array.fromAsync(new Bun.Glob("**/*.c").scan({ cwd: SOURCES, absolute: true }))).sort();
    const argv = agentArgv({ sources, include: [SOURCES, staging], outfile: staged, forTests: options.forTests });
    const child = Bun.spawn([compiler, ...argv], {
      stdin: "ignore",
      stdout: "pipe",
      stderr: "pipe",
      timeout: COMPILE_TIMEOUT_MS,
      killSignal: "SIGKILL",
    });
    const [output, errors, status] = await Promise.all([
      new Response(child.stdout).text(),
      new Response(child.stderr).text(),
      child.exited,
    ]);
    if (child.signalCode === "SIGKILL") throw new Error(`${program} did not end within ${COMPILE_TIMEOUT_MS / 1000} s`);
    if (status !== 0) {
      const hint = /cannot find -lc|stdio\.h: No such file/.test(errors) ? `\ninstall: ${packages}` : "";
      throw new Error(`${program} ended with ${status}\n${output}${errors}${hint}`.trim());
    }
    await rename(join(staging, "protocol.h"), join(OUT, "protocol.h"));
    await rename(staged, agentPath(options));
    return agentPath(options);
  } finally {
    await rm(staging, { recursive: true, force: true });
  }
}

if (import.meta.main) {
  const { values } = parseArgs({
    options: { arch: { type: "string" }, "for-tests": { type: "boolean", default: false } },
  });
  const arch = values.arch ?? process.arch;
  if (!Object.hasOwn(AGENT_ARCHS, arch)) {
    console.error(`error: --arch is one of ${Object.keys(AGENT_ARCHS).join(", ")}`);
    process.exit(2);
  }
  try {
    console.log(await buildAgent({ arch: arch as AgentArch, forTests: values["for-tests"] }));
  } catch (thrown) {
    console.error(`error: ${(thrown as Error).message}`);
    process.exitCode = 1;
  }
}
