/**
 * `bun run check`: format, lint, types, generated pages, and every test that needs no root, no KVM and no network. Runs
 * all parts even if some fail; the last line names the failed ones.
 */

import { addOutcomes, NOTHING, type Outcome, runBunTest, withoutPasses } from "./bun-test.ts";

const SOURCES = ["src", "test", "scripts"];
const PART_TIMEOUT_MS = 5 * 60_000;
const TEST_TIMEOUT_MS = 30_000;

const COMMANDS: readonly { readonly name: string; readonly argv: readonly string[] }[] = [
  { name: "format", argv: ["fmt", "--check", ...SOURCES] },
  // Run by Bun, because the distribution's Node may be too old.
  { name: "lint", argv: ["--bun", "x", "oxlint", "--quiet", ...SOURCES] },
  { name: "types", argv: ["check", "--no-script"] },
  { name: "reference pages", argv: ["scripts/docs.ts", "--check"] },
];

const TEST_FOLDERS = ["unit", "property", "contract", "arch"];

interface Part {
  readonly name: string;
  run(): Promise<{ readonly outcome: Outcome; readonly output: string }>;
}

const PARTS: readonly Part[] = [
  ...COMMANDS.map(({ name, argv }): Part => ({ name, run: async () => await runCommand(argv) })),
  ...TEST_FOLDERS.map((folder): Part => ({
    name: `${folder} tests`,
    run: async () => {
      const { output, ...outcome } = await runBunTest({
        paths: [`test/${folder}`],
        perTestTimeoutMs: TEST_TIMEOUT_MS,
        timeoutMs: PART_TIMEOUT_MS,
      });
      return { outcome, output: withoutPasses(output) };
    },
  })),
];

async function runCommand(argv: readonly string[]): Promise<{ readonly outcome: Outcome; readonly output: string }> {
  const child = Bun.spawn([process.execPath, ...argv], {
    stdin: "ignore",
    stdout: "pipe",
    stderr: "pipe",
    env: { ...process.env, NO_COLOR: "1" },
    timeout: PART_TIMEOUT_MS,
    killSignal: "SIGKILL",
  });
  const [stdout, stderr, status] = await Promise.all([
    new Response(child.stdout).text(),
    new Response(child.stderr).text(),
    child.exited,
  ]);
  return {
    outcome: status === 0 ? { ...NOTHING, passed: 1 } : { ...NOTHING, failed: 1 },
    output: `${stdout}${stderr}`,
  };
}

/** Runs every part. Prints one line for each, and the output of failed ones. */
export async function runChecks(): Promise<{ readonly outcome: Outcome; readonly failedParts: readonly string[] }> {
  let total = NOTHING;
  const failedParts: string[] = [];
  for (const { name, run } of PARTS) {
    const began = performance.now();
    const { outcome, output } = await run();
    const seconds = ((performance.now() - began) / 1000).toFixed(1);
    total = addOutcomes(total, outcome);
    const counts = name.endsWith(" tests") ? `${outcome.passed} passed, ` : "";
    console.log(`${outcome.failed === 0 ? "ok  " : "FAIL"} ${name} (${counts}${seconds} s)`);
    for (const skipped of outcome.skipped) console.log(`skip ${skipped}`);
    if (outcome.failed === 0) continue;
    failedParts.push(name);
    console.log(output);
  }
  return { outcome: total, failedParts };
}

if (import.meta.main) {
  const { failedParts } = await runChecks();
  console.log(failedParts.length === 0 ? "check: all parts passed" : `check: failed: ${failedParts.join(", ")}`);
  process.exitCode = failedParts.length === 0 ? 0 : 1;
}
