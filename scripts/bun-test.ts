/**
 * Runs test files with `bun test` and reports what really happened: a file that ends the process, doesn't load or never
 * ends counts as failed, even though the runner's own report misses it.
 */

import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";

export interface Outcome {
  readonly passed: number;
  readonly failed: number;
  /** One line for each test that did not run: its name, and the reason if the name doesn't give it. */
  readonly skipped: readonly string[];
}

export const NOTHING: Outcome = { passed: 0, failed: 0, skipped: [] };

export function addOutcomes(a: Outcome, b: Outcome): Outcome {
  return { passed: a.passed + b.passed, failed: a.failed + b.failed, skipped: [...a.skipped, ...b.skipped] };
}

/** `12 passed, 0 failed, 1 skipped`: the last line of every run. */
export function formatOutcome({ passed, failed, skipped }: Outcome): string {
  return `${passed} passed, ${failed} failed, ${skipped.length} skipped`;
}

/** Reads the counts from the last line that {@link formatOutcome} made in a program's output; null if there is none. */
export function parseOutcome(output: string): Outcome | null {
  const last = [...output.matchAll(/^(\d+) passed, (\d+) failed, (\d+) skipped$/gm)].at(-1);
  if (last === undefined) return null;
  const [, passed, failed, skipped] = last;
  const names = [...output.matchAll(/^skip +(.+)$/gm)].map(([, name]) => name ?? "");
  const count = Number(skipped);
  return {
    passed: Number(passed),
    failed: Number(failed),
    skipped: [...names, ...Array.from({ length: count }, () => "(not named)")].slice(0, count),
  };
}

const unescape = (text: string): string =>
  text
    .replace(/&#(\d+);/g, (_, code: string) => String.fromCodePoint(Number(code)))
    .replaceAll("&lt;", "<")
    .replaceAll("&gt;", ">")
    .replaceAll("&quot;", '"')
    .replaceAll("&apos;", "'")
    .replaceAll("&amp;", "&");

const attribute = (tag: string, name: string): string =>
  unescape(new RegExp(`\\b${name}="([^"]*)"`).exec(tag)?.[1] ?? "");

/**
 * Counts the results of one `bun test`. Pure.
 * @param report the JUnit document; null if none was written
 * @param output the runner's output, whose last lines count errors that the document omits
 * @param status exit status; null if it was killed
 */
export function readOutcome(report: string | null, output: string, status: number | null): Outcome {
  let tests = 0;
  let failed = 0;
  const skipped: string[] = [];
  for (const [, tag = "", body = ""] of (report ?? "").matchAll(
    /<testcase\b([^>]*?)(?:\/>|>([\s\S]*?)<\/testcase>)/g,
  )) {
    tests++;
    if (/<(?:failure|error)\b/.test(body)) failed++;
    else if (/<skipped\b/.test(body)) {
      const group = attribute(tag, "classname");
      skipped.push(`${attribute(tag, "file")}: ${group === "" ? "" : `${group} > `}${attribute(tag, "name")}`);
    }
  }
  const passed = tests - failed - skipped.length;
  const ended = /^Ran \d+ tests? across \d+ files?\./m.test(output);
  const counted = Number([...output.matchAll(/^ *(\d+) fail$/gm)].at(-1)?.[1] ?? 0);
  failed = Math.max(failed, counted);
  // No closing line: a test ended the process, perhaps with status 0, and the remaining tests are unknown.
  if (!ended || status === null || (status !== 0 && failed === 0)) failed++;
  return { passed, failed, skipped };
}

export interface BunTestOptions {
  /** Files or directories. */
  readonly paths: readonly string[];
  /** For tests without their own timeout. */
  readonly perTestTimeoutMs: number;
  /** For the whole run, which is then killed. */
  readonly timeoutMs: number;
  /** How many processes share the files. By default one process runs them one after another. */
  readonly processes?: number;
  /** Words before `bun`: a program that runs it elsewhere. */
  readonly prefix?: readonly string[];
  readonly env?: Readonly<Record<string, string>>;
}

/** Runs `bun test` on the paths. */
export async function runBunTest(options: BunTestOptions): Promise<Outcome & { readonly output: string }> {
  const dir = await mkdtemp(join(tmpdir(), "banger-report-"));
  try {
    const file = join(dir, "junit.xml");
    const child = Bun.spawn(
      [
        ...(options.prefix ?? []),
        process.execPath,
        "test",
        `--timeout=${options.perTestTimeoutMs}`,
        ...(options.processes === undefined ? [] : [`--parallel=${options.processes}`]),
        "--reporter=junit",
        `--reporter-outfile=${file}`,
        ...options.paths,
      ],
      {
        stdin: "ignore",
        stdout: "pipe",
        stderr: "pipe", // With CI set, a snapshot that is not there is a failure and is not written.
        env: { ...process.env, NO_COLOR: "1", CI: "true", ...options.env },
      },
    );
    let timedOut = false;
    const timer = setTimeout(() => {
      timedOut = true;
      child.kill("SIGKILL");
    }, options.timeoutMs);
    const ended = child.exited.then(() => clearTimeout(timer));
    const [stdout, stderr] = await Promise.all([readUntil(child.stdout, ended), readUntil(child.stderr, ended)]);
    await ended;
    const report = Bun.file(file);
    const output = `${stderr}${stdout}${timedOut ? `\nkilled after ${options.timeoutMs / 60_000} minutes\n` : ""}`;
    return {
      ...readOutcome((await report.exists()) ? await report.text() : null, output, timedOut ? null : child.exitCode),
      output,
    };
  } finally {
    await rm(dir, { recursive: true, force: true });
  }
}

/** Reads all text of a pipe. Ends soon after the process has ended, even if a leftover process holds the pipe open. */
async function readUntil(stream: ReadableStream<Uint8Array>, ended: Promise<void>): Promise<string> {
  const decoder = new TextDecoder();
  const reader = stream.getReader();
  const abandoned = ended.then(async () => {
    await Bun.sleep(1000);
    return { done: true, value: undefined } as const;
  });
  let text = "";
  for (;;) {
    const { done, value } = await Promise.race([reader.read(), abandoned]);
    if (done) break;
    text += decoder.decode(value, { stream: true });
  }
  await reader.cancel();
  return text + decoder.decode();
}

/** Works through the items in order, with that many under way at a time. */
export async function runAtOnce<T>(
  lanes: number,
  items: readonly T[],
  work: (item: T) => Promise<void>,
): Promise<void> {
  const waiting = [...items];
  const runLane = async (): Promise<void> => {
    for (let item = waiting.shift(); item !== undefined; item = waiting.shift()) await work(item);
  };
  await Promise.all(Array.from({ length: lanes }, runLane));
}

/** Removes the passed tests from a runner's output, because they hide the failures. */
export function withoutPasses(output: string): string {
  return output
    .split("\n")
    .filter((line) => !line.startsWith("(pass)"))
    .join("\n");
}
