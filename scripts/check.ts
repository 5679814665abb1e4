/**
 * `bun run check`: format, lint, types, generated pages, and every test that needs no root, no KVM and no network. Runs
 * all parts even if some fail, two at a time; the last line names the failed ones.
 */

import { toBangerError } from "../src/shared/errors.ts";
import { runProgram } from "../src/shared/run-program.ts";
import { addOutcomes, NOTHING, type Outcome, runAtOnce, runBunTest, withoutPasses } from "./bun-test.ts";

const SOURCES = ["src", "test", "scripts"];
/** Many times what it takes, for a machine that many share. */
const PART_TIMEOUT_MS = 15 * 60_000;
const TEST_TIMEOUT_MS = 120_000;
const OUTPUT_LIMIT_BYTES = 16 * 1024 * 1024;

const COMMANDS: readonly { readonly name: string; readonly argv: readonly string[] }[] = [
  { name: "format", argv: ["fmt", "--check", ...SOURCES] },
  // Run by Bun, because the distribution's Node may be too old.
  { name: "lint", argv: ["--bun", "x", "oxlint", "--quiet", ...SOURCES] },
  { name: "types", argv: ["check", "--no-script"] },
  { name: "reference pages", argv: ["scripts/docs.ts", "--check"] },
];

const TEST_FOLDERS = ["unit", "property", "contract", "arch"];
/** Most tests wait for a process, a disk or a deadline, so two processes share their files. */
const TEST_PROCESSES = 2;
/** How many parts run side by side. The first, the unit tests, takes as long as all the others. */
const PARTS_AT_ONCE = 2;

interface Part {
  readonly name: string;
  run(): Promise<{ readonly outcome: Outcome; readonly output: string }>;
}

const PARTS: readonly Part[] = [
  ...TEST_FOLDERS.map((folder): Part => ({
    name: `${folder} tests`,
    run: async () => {
      const { output, ...outcome } = await runBunTest({
        paths: [`test/${folder}`],
        perTestTimeoutMs: TEST_TIMEOUT_MS,
        timeoutMs: PART_TIMEOUT_MS,
        processes: TEST_PROCESSES,
      });
      return { outcome, output: withoutPasses(output) };
    },
  })),
  ...COMMANDS.map(({ name, argv }): Part => ({ name, run: async () => await runCommand(argv) })),
];

async function runCommand(argv: readonly string[]): Promise<{ readonly outcome: Outcome; readonly output: string }> {
  try {
    const { exitCode, stdout, stderr } = await runProgram([process.execPath, ...argv], {
      env: { ...process.env, NO_COLOR: "1" },
      timeoutMs: PART_TIMEOUT_MS,
      stdoutLimitBytes: OUTPUT_LIMIT_BYTES,
      stderrKept: OUTPUT_LIMIT_BYTES,
    });
    const output = `${new TextDecoder().decode(stdout)}${stderr}`;
    return { outcome: exitCode === 0 ? { ...NOTHING, passed: 1 } : { ...NOTHING, failed: 1 }, output };
  } catch (thrown) {
    return { outcome: { ...NOTHING, failed: 1 }, output: toBangerError(thrown).message };
  }
}

/** Runs every part. Prints one line for each as it ends, and the output of failed ones. */
export async function runChecks(): Promise<{ readonly outcome: Outcome; readonly failedParts: readonly string[] }> {
  let total = NOTHING;
  const failedParts: string[] = [];
  await runAtOnce(PARTS_AT_ONCE, PARTS, async ({ name, run }) => {
    const began = performance.now();
    const { outcome, output } = await run();
    total = addOutcomes(total, outcome);
    report(name, outcome, performance.now() - began);
    if (outcome.failed === 0) return;
    failedParts.push(name);
    console.log(output);
  });
  return { outcome: total, failedParts };
}

function report(name: string, { passed, failed, skipped }: Outcome, ms: number): void {
  const counts = name.endsWith(" tests") ? `${passed} passed, ` : "";
  console.log(`${failed === 0 ? "ok  " : "FAIL"} ${name} (${counts}${(ms / 1000).toFixed(1)} s)`);
  for (const line of skipped) console.log(`skip ${line}`);
}

if (import.meta.main) {
  const { failedParts } = await runChecks();
  console.log(failedParts.length === 0 ? "check: all parts passed" : `check: failed: ${failedParts.join(", ")}`);
  process.exitCode = failedParts.length === 0 ? 0 : 1;
}
