/**
 * Runs everything that this machine can test, one part after another: `bun run check`, then tests that need root, the
 * compiled binary with real guests, and the installed system in a test host. `bun scripts/test.ts [--full] [--only
 * check,root,e2e,hostvm]`; `--full` adds the test host's long scenarios and the fuzzers' long runs.
 *
 * Names what can't run here, with the reason. The last line counts everything: `N passed, N failed, N skipped`.
 */

import { existsSync } from "node:fs";
import { join, resolve } from "node:path";
import { parseArgs } from "node:util";
import {
  addOutcomes,
  type BunTestOptions,
  formatOutcome,
  NOTHING,
  type Outcome,
  parseOutcome,
  runAtOnce,
  runBunTest,
  withoutPasses,
} from "./bun-test.ts";
import { NAMESPACES } from "../test/root/namespaces.ts";
import { runChecks } from "./check.ts";

const ROOT = resolve(import.meta.dir, "..");
const TEST_TIMEOUT_MS = 120_000;
const FILE_TIMEOUT_MS = { default: 20 * 60_000, full: 90 * 60_000 };
const HOSTVM_TIMEOUT_MS = { default: 40 * 60_000, full: 90 * 60_000 };

/** First the test that builds the image that the others use. */
const FIRST = ["first-run.test.ts"];
/** Longer than all others together, so it starts before them. */
const LONGEST = ["crash.test.ts"];
/** Each file has a home of its own, and guests mostly wait: for a disk, a boot, a deadline. */
const E2E_AT_ONCE = 2;

async function listTestFiles(folder: string): Promise<readonly string[]> {
  if (!existsSync(join(ROOT, folder))) return [];
  const files = (await Array.fromAsync(new Bun.Glob("**/*.test.ts").scan({ cwd: join(ROOT, folder) }))).sort();
  const rank = (file: string): number => (FIRST.includes(file) ? 0 : LONGEST.includes(file) ? 1 : 2);
  return files.toSorted((a, b) => rank(a) - rank(b)).map((file) => `${folder}/${file}`);
}

function report(name: string, outcome: Outcome, ms: number): void {
  const { passed, failed, skipped } = outcome;
  const counts = [`${passed} passed`, ...(failed > 0 ? [`${failed} failed`] : [])].join(", ");
  console.log(`${failed === 0 ? "ok  " : "FAIL"} ${name} (${counts}, ${(ms / 1000).toFixed(1)} s)`);
  for (const line of skipped) console.log(`skip ${line}`);
}

function skipAll(files: readonly string[], why: string): Outcome {
  const skipped = files.map((file) => `${file}: ${why}`);
  for (const line of skipped) console.log(`skip ${line}`);
  return { ...NOTHING, skipped };
}

/** Each file runs in its own process, so that one that dies or hangs doesn't affect the others. */
async function runFiles(
  files: readonly string[],
  where: Pick<BunTestOptions, "prefix" | "env"> = {},
  lanes = 1,
): Promise<Outcome> {
  let total = NOTHING;
  await runAtOnce(lanes, files, async (file) => {
    const began = performance.now();
    const { output, ...outcome } = await runBunTest({
      paths: [`./${file}`],
      perTestTimeoutMs: TEST_TIMEOUT_MS,
      timeoutMs: FILE_TIMEOUT_MS[values.full ? "full" : "default"],
      ...where,
    });
    report(file, outcome, performance.now() - began);
    if (outcome.failed > 0) console.log(withoutPasses(output));
    total = addOutcomes(total, outcome);
  });
  return total;
}

/** The first file alone: the others need what it makes. */
async function runE2eTests(): Promise<Outcome> {
  const files = await listTestFiles("test/e2e");
  const first = await runFiles(files.slice(0, FIRST.length));
  return addOutcomes(first, await runFiles(files.slice(FIRST.length), {}, E2E_AT_ONCE));
}

async function runRootTests(): Promise<Outcome> {
  const files = await listTestFiles("test/root");
  if (process.getuid?.() !== 0) return skipAll(files, "needs root");
  const probe = Bun.spawnSync([...NAMESPACES, "true"], { stdin: "ignore", stderr: "pipe" });
  if (probe.exitCode !== 0) return skipAll(files, `no namespaces here (${probe.stderr.toString().trim()})`);
  return await runFiles(files, { prefix: NAMESPACES, env: { BANGER_TEST_ROOT: "1" } });
}

/** Tests the installed system in its own virtual machines. Its runner counts and names the scenarios itself. */
async function runHostTests(): Promise<Outcome> {
  const main = "test/hostvm/main.ts";
  if (!existsSync(join(ROOT, main))) return NOTHING;
  const child = Bun.spawn([process.execPath, main, ...(values.full ? ["--full"] : [])], {
    cwd: ROOT,
    stdin: "ignore",
    stdout: "pipe",
    stderr: "inherit",
  });
  const timeoutMs = HOSTVM_TIMEOUT_MS[values.full ? "full" : "default"];
  // TERM first, so that it ends its virtual machines.
  const timer = setTimeout(() => {
    console.log(`${main}: ended after ${timeoutMs / 60_000} minutes`);
    child.kill("SIGTERM");
  }, timeoutMs);
  let text = "";
  const decoder = new TextDecoder();
  for await (const chunk of child.stdout) {
    const piece = decoder.decode(chunk, { stream: true });
    text += piece;
    // Its last line is part of ours.
    process.stdout.write(piece.replace(/^(\d+ passed, \d+ failed, \d+ skipped)$/gm, "     $1"));
  }
  const status = await child.exited;
  clearTimeout(timer);
  const outcome = parseOutcome(text);
  if (outcome === null) {
    console.log(`FAIL ${main}: ended with ${status} and no count`);
    return { ...NOTHING, failed: 1 };
  }
  return status !== 0 && outcome.failed === 0 ? { ...outcome, failed: 1 } : outcome;
}

interface Part {
  readonly name: string;
  readonly title: string;
  run(): Promise<Outcome>;
}

const PARTS: readonly Part[] = [
  { name: "check", title: "format, lint, types, pages, unit tests", run: async () => (await runChecks()).outcome },
  { name: "root", title: "system calls and tools, as root", run: runRootTests },
  {
    name: "e2e",
    title: "the compiled binary, with real guests",
    run: runE2eTests,
  },
  { name: "hostvm", title: "the installed system, in a test host", run: runHostTests },
];

const { values } = parseArgs({ options: { only: { type: "string" }, full: { type: "boolean", default: false } } });
const only = values.only?.split(",") ?? PARTS.map(({ name }) => name);
for (const name of only) {
  if (!PARTS.some((part) => part.name === name)) {
    console.error(`error: --only takes ${PARTS.map((part) => part.name).join(", ")}`);
    process.exit(2);
  }
}

// Fuzzers read it.
if (values.full) process.env["BANGER_TEST_LONG"] = "1";

let total = NOTHING;
for (const { name, title, run } of PARTS) {
  if (!only.includes(name)) continue;
  console.log(`== ${name}: ${title}`);
  total = addOutcomes(total, await run());
}
if (total.skipped.length > 0) {
  console.log("== what did not run here");
  for (const line of total.skipped) console.log(`skip ${line}`);
}
console.log(formatOutcome(total));
process.exitCode = total.failed === 0 ? 0 : 1;
